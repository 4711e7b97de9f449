//! Access-log formats: one file each, a line in, a borrowed [`AccessRecord`] out.
//!
//! A parser allocates nothing, never panics and never rejects a line for fields that it does not know: balancers add
//! fields at the end of their lines without notice. What a line lacks stays empty in the record; what it needs and
//! lacks is a [`ParseError`] that names the field. Nothing here decides what a request means.

pub mod alb;
mod alb_json;
mod azure_app_gateway;
mod azure_front_door;
mod caddy;
mod cloudfront;
mod elb;
mod envoy;
mod envoy_json;
mod escape;
pub(super) mod fields;
mod gcp;
mod gives;
mod haproxy;
mod ingress_nginx;
mod json;
pub(super) mod lanes;
mod nginx;
mod nlb;
mod reader;
pub(super) mod request_line;
pub(super) mod times;
mod traefik;
pub(super) mod upstreams;
mod waf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use cloudfront::Layout;
pub use escape::{Unescaped, unescape};
pub use gives::Gives;
pub use reader::{Config, ConfigError, Reader};
pub use upstreams::sockets_tried;

use crate::request::AccessRecord;

/// Longest line that is parsed, in bytes. ALB allows a 16 KiB URL and an 8 KiB user agent, each byte of which can grow
/// fourfold by escaping; without a bound one hostile line would hold the whole road.
pub const MAX_LINE_BYTES: usize = 128 * 1024;

/// A format this build can read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// AWS Application Load Balancer, text form.
    Alb,
    /// nginx `combined`, with or without upstream fields behind it.
    Nginx,
    /// The Kubernetes ingress controller built on nginx.
    IngressNginx,
    /// HAProxy, `option httplog`.
    Haproxy,
    /// Envoy's and Istio's default text formats, and their JSON form.
    Envoy,
    /// AWS Classic Load Balancer.
    Elb,
    /// AWS Network Load Balancer, TLS listeners.
    NlbTls,
    /// Amazon CloudFront standard logs, text and JSON.
    Cloudfront,
    /// Amazon CloudFront real-time logs with every field.
    CloudfrontRealtime,
    /// AWS WAF.
    Waf,
    /// Google Cloud application load balancers.
    Gcp,
    /// Azure Application Gateway.
    AzureAppGateway,
    /// Azure Front Door, Standard, Premium and classic.
    AzureFrontDoor,
    /// Traefik, JSON and its common log format.
    Traefik,
    /// Caddy, JSON.
    Caddy,
}

/// What there is to know about one format; each format's file holds one.
struct Grammar {
    name: &'static str,
    gives: Gives,
    parse: for<'l> fn(&'l [u8]) -> Result<AccessRecord<'l>, ParseError>,
}

impl Format {
    /// Every format, in the order in which [`Format::detect`] tries them: the strictest grammar first.
    pub const ALL: &'static [Self] = &[
        Self::Alb,
        Self::NlbTls,
        Self::Cloudfront,
        Self::CloudfrontRealtime,
        Self::Waf,
        Self::Gcp,
        Self::AzureAppGateway,
        Self::AzureFrontDoor,
        Self::Elb,
        Self::Envoy,
        Self::Haproxy,
        Self::Traefik,
        Self::Caddy,
        Self::IngressNginx,
        Self::Nginx,
    ];

    const fn grammar(self) -> &'static Grammar {
        match self {
            Self::Alb => &alb::GRAMMAR,
            Self::Nginx => &nginx::GRAMMAR,
            Self::IngressNginx => &ingress_nginx::GRAMMAR,
            Self::Haproxy => &haproxy::GRAMMAR,
            Self::Envoy => &envoy::GRAMMAR,
            Self::Elb => &elb::GRAMMAR,
            Self::NlbTls => &nlb::GRAMMAR,
            Self::Cloudfront => &cloudfront::STANDARD,
            Self::CloudfrontRealtime => &cloudfront::REALTIME,
            Self::Waf => &waf::GRAMMAR,
            Self::Gcp => &gcp::GRAMMAR,
            Self::AzureAppGateway => &azure_app_gateway::GRAMMAR,
            Self::AzureFrontDoor => &azure_front_door::GRAMMAR,
            Self::Traefik => &traefik::GRAMMAR,
            Self::Caddy => &caddy::GRAMMAR,
        }
    }

    /// The name used in the config and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.grammar().name
    }

    /// What lines of this format can say.
    #[must_use]
    pub const fn gives(self) -> Gives {
        self.grammar().gives
    }

    /// The format called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }

    /// The first format whose grammar `line` fits.
    #[must_use]
    pub fn detect(line: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.parse(line).is_ok())
    }

    /// Reads one line, with or without its line end.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that names the first field that is missing or does not hold what the format puts there.
    #[inline]
    pub fn parse(self, line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(ParseError::new("line", 0, Problem::TooLong));
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (self.grammar().parse)(line)
    }
}

/// Why a line is not a line of its format.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("field {position} `{field}` {problem}")]
pub struct ParseError {
    /// Field name as the vendor's documentation spells it.
    pub field: &'static str,
    /// Position of the field in the line, from 1; 0 where the line as a whole is meant.
    pub position: u8,
    /// What is wrong with it.
    pub problem: Problem,
}

impl ParseError {
    /// Of a line that fits no format, from a source whose format nobody knows yet.
    const UNKNOWN_FORMAT: Self = Self::new("format", 0, Problem::Unknown);

    pub(super) const fn new(field: &'static str, position: u8, problem: Problem) -> Self {
        Self { field, position, problem }
    }
}

/// What is wrong with a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The line ends before it.
    #[error("is missing")]
    Missing,
    /// It opens with a quote that never closes, or has none where one belongs.
    #[error("is not quoted as it should be")]
    Quoting,
    /// Not a time.
    #[error("is not an ISO 8601 time in UTC")]
    Time,
    /// Not a time in the form that this format writes, nor a span.
    #[error("is not a time of this format")]
    OtherTime,
    /// Not `address:port`, nor `-`.
    #[error("is not an address with a port")]
    Socket,
    /// Not an address, nor `-`.
    #[error("is not an address")]
    Address,
    /// Not a number, nor `-`.
    #[error("is not a number")]
    Number,
    /// Not JSON.
    #[error("is not well-formed JSON")]
    Json,
    /// A word that the format does not have in this place.
    #[error("holds a value that this format does not have")]
    Unknown,
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("is longer than 128 KiB")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At least one line of every format, written by hand.
    const LINES: &[(Format, &str)] = &[
        (
            Format::Alb,
            r#"http 2026-05-04T10:00:01.250000Z app/edge/0 198.51.100.9:40100 10.1.2.3:80 0.0 0.2 0.0 200 200 1 2 "GET http://shop.example:80/ HTTP/1.1" "ua" - - arn:tg "Root=1-a-b" "-" "-" 0 2026-05-04T10:00:01.000000Z "forward" "-" "-""#,
        ),
        (
            Format::Alb,
            r#"{"type":"http","time":"2026-05-04T10:00:01Z","elb":"app/e/0","client_port":"198.51.100.9:1","target_port":"10.1.2.3:80","elb_status_code":"200","request":"GET http://h:80/ HTTP/1.1"}"#,
        ),
        (
            Format::Envoy,
            r#"{"start_time":"2026-05-04T10:00:01.250Z","method":"GET","path":"/a","response_code":200,"duration":"226","upstream_host":"10.1.2.3:80","downstream_remote_address":"198.51.100.9:46520"}"#,
        ),
        (
            Format::Traefik,
            r#"{"ClientAddr":"198.51.100.9:40100","DownstreamStatus":502,"Duration":250000000,"OriginStatus":500,"RequestAddr":"shop.example","RequestMethod":"GET","RequestPath":"/a","ServiceAddr":"10.1.2.3:80","StartUTC":"2026-05-04T10:00:01.25Z"}"#,
        ),
        (
            Format::Cloudfront,
            r#"{"date":"2026-05-04","time":"10:00:01","c-ip":"198.51.100.9","cs-method":"GET","cs-uri-stem":"/a","sc-status":"502","time-taken":"0.250"}"#,
        ),
        (
            Format::Nginx,
            r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET / HTTP/1.1" 200 12 "-" "ua" "-" 10.1.2.3:80 0.250"#,
        ),
        (Format::Nginx, r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET / HTTP/1.1" 200 12 "-" "ua""#),
        (
            Format::IngressNginx,
            r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET / HTTP/1.1" 200 12 "-" "ua" 89 0.001 [shop-web-80] [] 10.1.2.3:80 59 0.000 200 00ff"#,
        ),
        (
            Format::Haproxy,
            r#"198.51.100.9:40100 [04/May/2026:10:00:01.250] http-in web/web-1 1/0/0/1/2 200 99 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/1.1" 10.1.2.3:80 10.1.0.1:5000 id"#,
        ),
        (
            Format::Envoy,
            r#"[2026-05-04T10:00:01.250Z] "GET / HTTP/2" 200 - 154 7 226 100 "-" "ua" "11-22" "shop.example" "10.1.2.3:80""#,
        ),
        (
            Format::Elb,
            r#"2026-05-04T10:00:01.000000Z web-lb 198.51.100.9:40100 10.1.2.3:80 0.1 0.2 0.1 200 201 5 70 "GET http://shop.example:80/a?b HTTP/1.1" "ua" - -"#,
        ),
        (
            Format::NlbTls,
            r#"tls 2.0 2026-05-04T10:00:05 net/edge/00ff 11ee 198.51.100.9:40100 10.9.9.9:443 2500 12 98 246 - arn:x - CIPHER tlsv13 - shop.example h2 h2 "h2","http/1.1" 2026-05-04T10:00:02"#,
        ),
        (
            Format::Cloudfront,
            "2026-05-04\t10:00:01\tARN1-C1\t900\t198.51.100.9\tGET\td1.cloudfront.net\t/a%2520b\t502\t-\tua\tq=%2527\t-\tMiss\tid-1\tshop.example\thttps\t675\t0.250\t-",
        ),
        (
            Format::CloudfrontRealtime,
            "1777888801.000\t198.51.100.9\t0.1\t502\t900\tGET\thttps\tshop.example\t/a?q=1\t675\tARN1\tid-1\td1.cloudfront.net\t0.250\tHTTP/2.0\tIPv4\tua",
        ),
        (
            Format::Waf,
            r#"{"timestamp":1777888801250,"webaclId":"arn:x","action":"ALLOW","httpRequest":{"clientIp":"198.51.100.9","headers":[{"name":"Host","value":"shop.example"}],"uri":"/a","args":"b=c","httpMethod":"GET","requestId":"1-aa"}}"#,
        ),
        (
            Format::Gcp,
            r#"{"httpRequest":{"latency":"0.250s","remoteIp":"198.51.100.9","requestMethod":"GET","requestUrl":"https://shop.example/a?b","serverIp":"10.1.2.3","status":200},"jsonPayload":{"statusDetails":"response_sent_by_backend"},"timestamp":"2026-05-04T10:00:01Z"}"#,
        ),
        (
            Format::AzureAppGateway,
            r#"{"timeStamp":"2026-05-04T10:00:01+00:00","category":"ApplicationGatewayAccessLog","properties":{"clientIP":"198.51.100.9","httpMethod":"GET","requestUri":"\/a","httpStatus":200,"timeTaken":0.25,"serverRouted":"10.1.2.3:80","serverStatus":"200","upstreamSourcePort":"21564"}}"#,
        ),
        (
            Format::AzureFrontDoor,
            r#"{"category":"FrontDoorAccessLog","properties":{"socketIp":"198.51.100.9","httpMethod":"GET","httpStatusCode":"200","requestUri":"https://shop.example:443/a?b","timeTaken":"0.250","originIp":"10.1.2.3:443"},"time":"2026-05-04T10:00:01.2500000Z"}"#,
        ),
        (
            Format::Traefik,
            r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 12 "-" "ua" 7 "web@docker" "http://10.1.2.3:80" 250ms"#,
        ),
        (
            Format::Caddy,
            r#"{"ts":1777888801.250,"logger":"http.log.access","request":{"remote_ip":"198.51.100.9","method":"GET","host":"shop.example","uri":"/a","headers":{"User-Agent":["ua"]}},"duration":0.25,"status":200,"upstream":"10.1.2.3:80"}"#,
        ),
    ];

    #[test]
    fn every_format_finds_its_own_line_and_no_other() {
        for (format, line) in LINES {
            assert_eq!(Format::detect(line.as_bytes()), Some(*format), "{line}");
        }
        let covered: std::collections::BTreeSet<Format> = LINES.iter().map(|(format, _)| *format).collect();
        assert_eq!(covered, Format::ALL.iter().copied().collect(), "a format without a line here");
    }

    #[test]
    fn names_are_the_same_in_the_config_and_on_the_command_line() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(*format));
            assert_eq!(serde_json::to_value(format).expect("serializes"), format.name());
        }
    }

    #[test]
    fn a_line_beyond_the_bound_is_refused_unread() {
        let line = vec![b' '; MAX_LINE_BYTES + 1];
        for format in Format::ALL {
            assert_eq!(format.parse(&line).expect_err("refused").problem, Problem::TooLong);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            for format in Format::ALL {
                let _ = format.parse(&bytes);
            }
        }

        /// A good line with a few bytes changed reaches much further into a parser than random bytes do.
        #[test]
        fn a_damaged_line_gives_a_record_or_an_error(
            at in 0_usize..900, cut in 0_usize..1200, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..6),
        ) {
            for (format, line) in LINES {
                let mut line = line.as_bytes().to_vec();
                let at = at.min(line.len());
                line.splice(at..(at + bytes.len()).min(line.len()), bytes.iter().copied());
                let _ = format.parse(&line);
                let _ = format.parse(&line[..cut.min(line.len())]);
            }
        }
    }
}
