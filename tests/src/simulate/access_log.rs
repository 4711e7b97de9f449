//! Requests in, lines as load balancers write them out.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use breachline::timestamp::Timestamp;

/// Who writes the line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// AWS application load balancer: whole file every five minutes, microseconds.
    Alb,
    /// Envoy's own text format: milliseconds, at once.
    Envoy,
    /// ingress-nginx: whole seconds, at once.
    IngressNginx,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// HTTP method.
    pub method: String,
    /// Path and query as the client sends it.
    pub url: String,
    /// User agent.
    pub agent: String,
}

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Line {
    /// When the balancer received it.
    pub received: Timestamp,
    /// When the answer was complete.
    pub completed: Timestamp,
    /// What it said.
    pub said: Arc<Said>,
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it went.
    pub target: SocketAddr,
    /// What the target answered.
    pub status: u16,
    /// Name of the service.
    pub service: Arc<str>,
    /// Who writes the line.
    pub balancer: Balancer,
}

impl Line {
    /// The line, into `text` (cleared before).
    pub fn render(&self, text: &mut String) {
        text.clear();
        // Writing to a string cannot fail.
        let _ = match self.balancer {
            Balancer::Alb => self.alb(text),
            Balancer::Envoy => self.envoy(text),
            Balancer::IngressNginx => self.ingress(text),
        };
    }

    fn seconds(&self) -> f64 {
        self.completed.since(self.received).as_secs_f64()
    }

    fn alb(&self, text: &mut String) -> std::fmt::Result {
        let Self { completed, client, target, status, service, received, .. } = self;
        write!(
            text,
            "h2 {completed} app/{service}/50dc6c495c0c9188 {client} {target} 0.001 {:.3} 0.000 {status} {status} 512 2048 \"{} https://{service}.example:443",
            self.seconds(),
            self.said.method
        )?;
        escaped(text, &self.said.url);
        text.push_str(" HTTP/2.0\" \"");
        escaped(text, &self.said.agent);
        write!(
            text,
            "\" TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{service}/73e2d6bc24d8a067 \"Root=1-1-2\" \"{service}.example\" \"-\" 0 {received} \"forward\" \"-\" \"-\" \"{target}\" \"{status}\" \"-\" \"-\" TID_1"
        )
    }

    fn envoy(&self, text: &mut String) -> std::fmt::Result {
        let Self { received, client, target, status, service, .. } = self;
        let millis = self.completed.since(*received).as_millis();
        let received = Timestamp::from_unix_millis(received.as_unix_nanos() / 1_000_000);
        write!(text, "[{received}] \"{} ", self.said.method)?;
        text.extend(self.said.url.chars().map(|c| if c == '"' { '\'' } else { c }));
        write!(text, " HTTP/2\" {status} - 512 2048 {millis} {millis} \"{}\" \"", client.ip())?;
        text.extend(self.said.agent.chars().map(|c| if c == '"' { '\'' } else { c }));
        write!(text, "\" \"11-22\" \"{service}.example\" \"{target}\"")
    }

    fn ingress(&self, text: &mut String) -> std::fmt::Result {
        let Self { completed, client, target, status, service, .. } = self;
        write!(text, "{} - - [{}] \"{} ", client.ip(), local_time(*completed), self.said.method)?;
        escaped(text, &self.said.url);
        write!(text, " HTTP/1.1\" {status} 2048 \"-\" \"")?;
        escaped(text, &self.said.agent);
        let seconds = self.seconds();
        write!(text, "\" 512 {seconds:.3} [prod-{service}-80] [] {target} 2048 {seconds:.3} {status} 00ff00ff00ff")
    }
}

/// Control characters, quotes and backslashes as `\xHH`.
fn escaped(text: &mut String, raw: &str) {
    for c in raw.chars() {
        if c.is_control() || c == '"' || c == '\\' {
            let _ = write!(text, "\\x{:02X}", u32::from(c));
        } else {
            text.push(c);
        }
    }
}

/// `04/May/2026:10:00:01 +0000`.
fn local_time(at: Timestamp) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let whole = Timestamp::from_unix_millis(at.as_unix_nanos().div_euclid(1_000_000_000) * 1000).to_string();
    // RFC 3339: `2026-05-04T10:00:01Z`.
    let part = |range: std::ops::Range<usize>| whole.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&"Jan");
    format!("{}/{month}/{}:{} +0000", part(8..10), part(0..4), part(11..19))
}

#[cfg(test)]
mod tests {
    use breachline::edge::formats::Format;
    use breachline::request::Target;

    use super::*;

    #[test]
    fn every_balancers_line_is_read_as_it_was_meant() {
        let received: Timestamp = "2026-05-04T10:00:01.250Z".parse().expect("a time");
        let mut text = String::new();
        for (balancer, format, fault) in [
            (Balancer::Alb, Format::Alb, 0),
            (Balancer::Envoy, Format::Envoy, 0),
            (Balancer::IngressNginx, Format::IngressNginx, 1_000),
        ] {
            let said = Said { method: "GET".into(), url: "/a?b=%22;id".into(), agent: "a \"b\"".into() };
            let line = Line {
                received,
                completed: super::super::later(received, 0.5),
                said: Arc::new(said),
                client: "198.51.100.9:4711".parse().expect("an address"),
                target: "10.0.0.1:8080".parse().expect("an address"),
                status: 200,
                service: Arc::from("shop"),
                balancer,
            };
            line.render(&mut text);
            let record = format.parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(record.received.distance(received).as_millis() <= fault, "{text}");
            assert_eq!(record.target, Target::Socket(line.target), "{text}");
            assert_eq!((record.path_and_query, record.target_status), (&b"/a?b=%22;id"[..], Some(200)), "{text}");
        }
    }
}
