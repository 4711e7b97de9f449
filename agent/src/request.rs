//! What the edge saw: one access-log line parsed ([`AccessRecord`], borrowed, no allocation), judged ([`Verdict`]) and,
//! where it is worth keeping, owned ([`Request`]).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Where the balancer sent the request.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An address and port: a listener somewhere.
    Socket(SocketAddr),
    /// An address without a port.
    Address(IpAddr),
    /// A function, not a host.
    Lambda,
    /// Never dispatched (redirect, blocked, malformed).
    None,
    /// The format does not say.
    Unlogged,
}

/// One access-log line, parsed and borrowed from it. Byte slices are as logged, still escaped and percent-encoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AccessRecord<'l> {
    /// When the balancer received the request: the event time.
    pub received: Timestamp,
    /// When the response was complete (for a format without it: `received`).
    pub completed: Timestamp,
    /// The balancer's name, as logged.
    pub balancer: &'l [u8],
    /// Immediate peer of the balancer; port 0 where the format logs the address alone.
    pub client: Option<SocketAddr>,
    /// Where it went; of several targets tried, the last.
    pub target: Target,
    /// Every target tried, as logged, where there was more than one: each of them received the request.
    pub tried: &'l [u8],
    /// The balancer's own socket towards the target: what the workload sees as its peer, hence an exact join. The address is
    /// unspecified where the format logs the port alone.
    pub upstream_local: Option<SocketAddr>,
    /// What the client got.
    pub status: Option<u16>,
    /// What the target answered; absent when the balancer made the response.
    pub target_status: Option<u16>,
    /// Bytes from the client.
    pub received_bytes: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
    /// HTTP method, `-` when malformed.
    pub method: &'l [u8],
    /// Scheme, host and port of the URL, as far as the format logs them.
    pub authority: &'l [u8],
    /// Path and query.
    pub path_and_query: &'l [u8],
    /// The query without its question mark, where the format logs it apart from the path; empty otherwise.
    pub query: &'l [u8],
    /// User agent, empty when absent.
    pub user_agent: &'l [u8],
    /// Referer, where the format has one.
    pub referer: &'l [u8],
    /// Trace id the client or the balancer gave (attacker-influenced: a hint, not a proof).
    pub trace_id: &'l [u8],
    /// The balancer's own word on what was odd (ALB `classification_reason`, Envoy response flags, HAProxy termination
    /// state), empty when none.
    pub anomaly: &'l [u8],
    /// How the log wrote the bytes that would have broken its line.
    pub escape: LogEscape,
}

/// How a log writes bytes that would break its own line. Undone once, before any decoding that an application would do.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LogEscape {
    /// `\xHH`, and a backslash before a quote or a backslash (ALB, nginx).
    #[default]
    Backslash,
    /// The escapes of a JSON string (RFC 8259, section 7).
    Json,
    /// One layer of `%HH` over the whole value, the percent sign included (CloudFront, NLB).
    Percent,
    /// `#HH` (HAProxy).
    Hash,
    /// Nothing is escaped (Envoy's text form).
    Raw,
}

impl AccessRecord<'_> {
    /// A record that says nothing but when: what a format begins with, and fills as far as it can.
    #[must_use]
    pub const fn blank(received: Timestamp, completed: Timestamp) -> Self {
        Self {
            received,
            completed,
            balancer: b"",
            client: None,
            target: Target::Unlogged,
            tried: b"",
            upstream_local: None,
            status: None,
            target_status: None,
            received_bytes: 0,
            sent_bytes: 0,
            method: b"",
            authority: b"",
            path_and_query: b"",
            query: b"",
            user_agent: b"",
            referer: b"",
            trace_id: b"",
            anomaly: b"",
            escape: LogEscape::Backslash,
        }
    }

    /// The host name or address in the authority, without scheme and port; empty when the format logs none.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        // A slash is the last byte of the scheme's separator in every spelling, and no host holds one.
        let authority = match self.authority.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.authority[slash + 1..],
            None => self.authority,
        };
        if authority.starts_with(b"[") {
            return authority.split_inclusive(|byte| *byte == b']').next().unwrap_or_default();
        }
        authority.split(|byte| *byte == b':').next().unwrap_or_default()
    }

    /// How long the request was in flight.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.completed.since(self.received)
    }
}

/// Class of an exploit-like input; names follow the field's usage (CRS families, CWE).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttackClass {
    /// SQL injection.
    Sqli,
    /// OS command injection.
    Cmdi,
    /// Path traversal and local file inclusion.
    Traversal,
    /// Remote file inclusion.
    Rfi,
    /// Server-side request forgery; to a metadata endpoint when the verdict says so.
    Ssrf,
    /// JNDI look-ups (Log4Shell) and other Java expression injection.
    JavaInjection,
    /// Template injection.
    Ssti,
    /// PHP, Node, Ruby, Perl, Python code.
    CodeInjection,
    /// Serialized objects and endpoints known to read them.
    Deserialization,
    /// Shellshock.
    Shellshock,
    /// Use of a web shell.
    Webshell,
    /// Cross-site scripting: no way to a shell, kept light.
    Xss,
    /// CR/LF, smuggling, malformed requests.
    Crlf,
    /// LDAP injection.
    Ldapi,
    /// NoSQL injection.
    Nosqli,
    /// XML external entities.
    Xxe,
    /// Server-side includes.
    Ssi,
    /// Mail header injection.
    MailInjection,
    /// Open redirect (ambiguous in one line).
    OpenRedirect,
    /// Authentication bypass (ambiguous in one line).
    AuthBypass,
    /// Path of a known-exploited vulnerability.
    CvePath,
    /// Looking for files and panels that should not be there.
    Probe,
    /// A scanner names itself.
    ScannerUa,
}

/// Something in a request that would reappear on the host if the request did what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Indicator {
    /// An address (every spelling resolved).
    Address(IpAddr),
    /// A host name, lower case.
    Host(String),
    /// A URL, as decoded.
    Url(String),
    /// A command line, decoded (base64 and escapes undone).
    Command(String),
    /// A file path.
    Path(String),
}

/// What the judge says of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Strongest class found.
    pub class: AttackClass,
    /// 0 to 100. From [`Verdict::EXPLOIT_LIKE`] the request counts as exploit-like.
    pub score: u8,
    /// The exact decoded part that matched, bounded and printable.
    pub matched: String,
    /// One sentence.
    pub reason: String,
    /// CVE or rule family, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What to look for on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indicators: Vec<Indicator>,
}

impl Verdict {
    /// The product that must run for the request to do anything, where the reference names one: `Confluence` of
    /// `CVE-2023-22515 (Confluence)`. A probe for a product that a workload is not says little about it.
    #[must_use]
    pub fn product(&self) -> Option<&str> {
        let reference = self.reference.as_deref()?;
        let (_, product) = reference.strip_suffix(')')?.split_once(" (")?;
        Some(product)
    }

    /// Least score of an exploit-like request.
    pub const EXPLOIT_LIKE: u8 = 50;

    /// Whether the request counts as exploit-like.
    #[must_use]
    pub const fn exploit_like(&self) -> bool {
        self.score >= Self::EXPLOIT_LIKE
    }
}

/// One request kept as evidence: bounded, owned, printable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// When the balancer received it.
    pub received: Timestamp,
    /// When the response was complete.
    pub completed: Timestamp,
    /// Immediate peer of the balancer.
    pub client: Option<SocketAddr>,
    /// Where it went.
    pub target: Target,
    /// HTTP method.
    pub method: String,
    /// As logged (authority, path, query), control characters escaped, at most 2 KiB.
    pub url: String,
    /// User agent, at most 512 bytes.
    pub user_agent: String,
    /// What the client got.
    pub status: Option<u16>,
    /// What the target answered.
    pub target_status: Option<u16>,
    /// The balancer's name.
    pub balancer: String,
    /// Trace id.
    pub trace_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_stands_in_its_reference() {
        let check = |reference: &str, product: Option<&str>| {
            let verdict = Verdict {
                class: AttackClass::CvePath,
                score: 60,
                matched: String::new(),
                reason: String::new(),
                reference: Some(reference.to_owned()),
                indicators: Vec::new(),
            };
            assert_eq!(verdict.product(), product, "{reference}");
        };
        check("CVE-2023-22515 (Confluence)", Some("Confluence"));
        check("CVE-2021-44228", None);
        check("CRS 942", None);
    }

    #[test]
    fn a_host_is_found_in_every_form_of_authority() {
        let check = |authority: &str, host: &str| {
            let record =
                AccessRecord { authority: authority.as_bytes(), ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) };
            assert_eq!(record.host(), host.as_bytes(), "{authority}");
        };
        check("https://shop.example:443", "shop.example");
        check(r"https:\/\/shop.example:443", "shop.example");
        check("shop.example:8080", "shop.example");
        check("shop.example", "shop.example");
        check("http://[2001:db8::7]:80", "[2001:db8::7]");
        check("[2001:db8::7]", "[2001:db8::7]");
        check("", "");
    }
}
