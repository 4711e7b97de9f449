//! The judge of one request: is this input written to exploit something, and what would it do?
//!
//! A parsed [`AccessRecord`] goes in, a [`Verdict`] or nothing comes out. The request is decoded ([`decode`]) and
//! cut into the parts that an application sees ([`target`]); one pass over it finds telling words ([`sign`]); the
//! parts then go to the judges whose grammar they could fit: SQL, shell, markup, paths, URLs, expressions,
//! directory and document queries, line breaks. Each finding has a class, a weight and a reason; weights of a class
//! add up. An ordinary request is let go after a look at its bytes ([`sieve`]), or because the same was found ordinary
//! before ([`memory`]), without an allocation. Every step is linear in the request and bounded.
//!
//! The judge knows one line and nothing else: not what the host runs, not what is usual, not what the same client
//! did before.

mod base64;
mod code;
mod decode;
#[cfg(test)]
mod examples;
mod expression;
mod finding;
mod fingerprint;
mod header;
mod host;
mod indicator;
mod marks;
mod markup;
mod memory;
mod pairs;
mod probe;
mod prose;
mod query;
mod scanner;
mod shapes;
mod shell;
mod sieve;
mod sign;
mod sqli;
mod target;
mod traversal;
mod url;
mod words;

use decode::Tricks;
use finding::{Finding, Findings, Ground};
use marks::Marks;
use memchr::memmem;
use memory::{Digest, Memory};
use pairs::Pairs;
use scanner::Scanners;
use sign::{Lexicon, Woken};
use sqli::Sql;
use target::{Part, Place, Target};

use crate::request::{AccessRecord, AttackClass, LogEscape, Verdict};

/// Least score that is worth a verdict; below it a finding is noise.
const NOTABLE: u8 = 25;

/// Bytes that ordinary targets consist of apart from letters and digits. A target of nothing else holds no quoting,
/// no operator and no escape: only a telling word can make it hostile.
const SYNTAX: Marks = Marks::QUOTE
    .and(Marks::ANGLE)
    .and(Marks::PAREN)
    .and(Marks::SEMICOLON)
    .and(Marks::PIPE)
    .and(Marks::DOLLAR)
    .and(Marks::BRACE)
    .and(Marks::BRACKET)
    .and(Marks::BACKSLASH)
    .and(Marks::LINE)
    .and(Marks::CONTROL)
    .and(Marks::SPACE)
    .and(Marks::PERCENT)
    .and(Marks::HIGH)
    .and(Marks::CARET)
    .and(Marks::PLUS)
    .and(Marks::COLON);

/// Whether `agent` holds what it needs before anything but a scanner's name can be in it. Without branches, for the
/// compiler to do sixteen bytes at a time.
fn has_agent_syntax(agent: &[u8]) -> bool {
    let syntax = |byte: u8| {
        let quote = (byte == b'\'') | (byte == b'"') | (byte == b'`') | (byte == b'\\');
        let markup = (byte == b'<') | (byte == b'>') | (byte == b'{') | (byte == b'}');
        u8::from(quote | markup | (byte == b'$') | (byte == b'%'))
    };
    let Some(last) = agent.last_chunk::<16>() else { return agent.iter().any(|byte| syntax(*byte) != 0) };
    let found = agent.as_chunks::<16>().0.iter().chain([last]).fold([0_u8; 16], |sum, chunk| {
        let mut sum = sum;
        for (sum, byte) in sum.iter_mut().zip(chunk) {
            *sum |= syntax(*byte);
        }
        sum
    });
    u128::from_le_bytes(found) != 0
}

/// Judges requests. Built once, shared by all who judge.
#[derive(Debug)]
pub struct Judge {
    lexicon: Lexicon,
    scanners: Scanners,
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

/// Buffers of one judging thread, reused from request to request.
#[derive(Debug, Default)]
pub struct Scratch {
    target: Target,
    sql: Sql,
    woken: Vec<Woken>,
    found: Findings,
    /// Plain user agents. A busy site sees some thousands of them in a day; 64 KiB.
    agents: Memory<4096>,
    /// Targets in which nothing was found. A site has some ten thousand that come again; 256 KiB, which a
    /// second-level cache holds.
    targets: Memory<16384>,
}

/// One step of a judgement, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done: `raw`, `decoded`, `found`, `verdict`.
    pub stage: &'static str,
    /// Where: `path`, `name`, `value of x`, `user agent`.
    pub place: String,
    /// What came of it, printable and bounded.
    pub text: String,
}

impl Judge {
    /// Files the judge's words: a few milliseconds and some 100 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { lexicon: Lexicon::new(), scanners: Scanners::new() }
    }

    /// Judges one request. `None` for an ordinary one.
    pub fn judge(&self, record: &AccessRecord<'_>, scratch: &mut Scratch) -> Option<Verdict> {
        let agent_is_plain = self.agent_is_plain(record.user_agent, &mut scratch.agents);
        let digest = if agent_is_plain { digest(record, &scratch.targets) } else { None };
        if digest.is_some_and(|digest| scratch.targets.knows(digest)) {
            return None;
        }
        let found = if agent_is_plain && self.target_is_plain(record) {
            None
        } else {
            self.find(record, !agent_is_plain, scratch);
            verdict(&scratch.target, &scratch.found)
        };
        if let (None, Some(digest)) = (&found, digest) {
            scratch.targets.remember(digest);
        }
        found
    }

    /// Judges one request and tells every step.
    pub fn explain(&self, record: &AccessRecord<'_>, scratch: &mut Scratch) -> Vec<Step> {
        let step =
            |stage, place: &str, text: &[u8]| Step { stage, place: place.to_owned(), text: indicator::printable(text) };
        let mut steps =
            vec![step("raw", "target", record.path_and_query), step("raw", "user agent", record.user_agent)];
        self.find(record, true, scratch);
        for part in scratch.target.parts() {
            let text = format!("{}{}", indicator::printable(part.text), undone(part.tricks));
            steps.push(Step { stage: "decoded", place: place_name(part.place, part.name), text });
        }
        for finding in scratch.found.iter() {
            let class = match finding.ground {
                Ground::Class(class) => format!("{class:?}"),
                Ground::Dress => "disguise".to_owned(),
            };
            let matched = indicator::printable(scratch.target.slice(finding.span.clone()));
            let text = format!("{class} +{}: {} `{matched}`", finding.weight, finding.reason);
            steps.push(Step { stage: "found", place: place_of(&scratch.target, finding), text });
        }
        let text = match verdict(&scratch.target, &scratch.found) {
            Some(verdict) => {
                let mark = if verdict.exploit_like() { "exploit-like" } else { "notable" };
                format!("{mark}, {:?} {} of 100: {}", verdict.class, verdict.score, verdict.reason)
            }
            None => match scratch.found.sum() {
                Some((_, score)) => format!("ordinary: {score} of 100, less than the {NOTABLE} that are worth a word"),
                None => "ordinary".to_owned(),
            },
        };
        steps.push(Step { stage: "verdict", place: "request".to_owned(), text });
        steps
    }

    /// Whether the user agent is text without syntax that names no scanner.
    fn agent_is_plain<const SLOTS: usize>(&self, agent: &[u8], known: &mut Memory<SLOTS>) -> bool {
        let digest = known.digest(b"", 0, agent);
        if digest.is_some_and(|digest| known.knows(digest)) {
            return true;
        }
        let plain = !has_agent_syntax(agent) && !shell::begins_with_separator(agent) && !self.scanners.touches(agent);
        if let Some(digest) = digest.filter(|_| plain) {
            known.remember(digest);
        }
        plain
    }

    /// Whether the rest of the request can be let go after a look: plain bytes and no telling word.
    fn target_is_plain(&self, record: &AccessRecord<'_>) -> bool {
        // Nothing that a log escapes is plain: HAProxy's `#HH` neither.
        is_usual(record.method)
            && record.referer.is_empty()
            && is_proper(record.anomaly)
            && self.lexicon.passes(record.path_and_query)
            && (record.query.is_empty() || self.lexicon.passes(record.query))
            && !probe::could_hide(path_of(record.path_and_query))
    }

    /// Decodes the request and lets every judge see it.
    fn find(&self, record: &AccessRecord<'_>, with_agent: bool, scratch: &mut Scratch) {
        let Scratch { target, sql, woken, found, .. } = scratch;
        found.clear();
        target.read(record, with_agent);
        self.lexicon.judge(target, record.method, woken, found);
        for (index, woken) in woken.iter().enumerate() {
            let part = target.part(index);
            if part.place == Place::UserAgent {
                self.scanners.judge(&part, found);
            }
            // Text without syntax in which no word stood out says nothing, unless its name asks for a command.
            let elsewhere = part.text.starts_with(b"//");
            let hides = part.place == Place::Path && probe::could_hide(part.text);
            if part.marks.any(SYNTAX) || elsewhere || hides || *woken != Woken::default() || shell::is_asked_for(&part)
            {
                judge_part(&part, *woken, sql, found);
            }
        }
        judge_anomaly(record.anomaly, target, found);
        judge_dress(target, found);
    }
}

/// What stands before the query.
fn path_of(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).map_or(target, |question| &target[..question])
}

/// The hash of all that the judge looks at, of a request with nothing but a method, a target and a plain user agent.
fn digest<const SLOTS: usize>(record: &AccessRecord<'_>, memory: &Memory<SLOTS>) -> Option<Digest> {
    let alone = record.query.is_empty() && record.referer.is_empty() && is_proper(record.anomaly);
    let escape = match record.escape {
        LogEscape::Backslash => 0,
        LogEscape::Json => 1,
        LogEscape::Percent => 2,
        LogEscape::Hash => 3,
        LogEscape::Raw => 4,
    };
    if alone { memory.digest(record.method, escape, record.path_and_query) } else { None }
}

/// Methods of ordinary requests; what writes or tunnels is looked at.
fn is_usual(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"POST" | b"HEAD" | b"OPTIONS")
}

/// Whether a part has, besides its words, what a statement compares, calls or cuts off with.
fn could_compute(part: &Part<'_>) -> bool {
    let constant = || [&b"true"[..], b"false", b"null"].iter().any(|word| memmem::find(part.lower, word).is_some());
    part.marks.any(OPERATORS) || part.text.iter().any(u8::is_ascii_digit) || part.place == Place::Name || constant()
}

/// Marks of SQL's operators, calls, strings and comments.
const OPERATORS: Marks = Marks::QUOTE
    .and(Marks::ANGLE)
    .and(Marks::PAREN)
    .and(Marks::SEMICOLON)
    .and(Marks::PIPE)
    .and(Marks::EQUALS)
    .and(Marks::COMMENT)
    .and(Marks::AT);

/// Lets every judge of a grammar see one part.
fn judge_part(part: &Part<'_>, woken: Woken, sql: &mut Sql, found: &mut Findings) {
    let pairs = Pairs::of(part.lower);
    let part = &Part { pairs: &pairs, ..*part };
    sql.judge(part, woken.sql || woken.sql_besides && could_compute(part), found);
    shell::judge(part, found);
    markup::judge(part, found);
    if woken.steps {
        traversal::judge(part, woken.file, found);
    }
    url::judge(part, found);
    expression::judge(part, found);
    code::judge(part, found);
    query::judge(part, found);
    header::judge(part, found);
    probe::judge(part, found);
}

/// What the balancer itself says of a request that two servers may read differently. Names: AWS, "Classification
/// reasons".
const SMUGGLED: &[&[u8]] = &[
    b"BothTeClPresent",
    b"MultipleContentLength",
    b"MultipleTransferEncodingChunked",
    b"BadTransferEncoding",
    b"BadContentLength",
    b"DuplicateContentLength",
    b"UndefinedTransferEncodingSemantics",
    b"UndefinedContentLengthSemantics",
];

/// Whether the balancer had nothing to say about the request's framing.
fn is_proper(anomaly: &[u8]) -> bool {
    anomaly.is_empty() || !SMUGGLED.contains(&anomaly)
}

fn judge_anomaly(anomaly: &[u8], target: &Target, found: &mut Findings) {
    if !is_proper(anomaly) {
        let path = target.part(0);
        let span = path.offset..path.offset + path.text.len();
        found.add(AttackClass::Crlf, 50, span, "is framed so that two servers read its length differently");
    }
}

/// Disguise counts where something was found under it.
fn judge_dress(target: &Target, found: &mut Findings) {
    let dressed = found.iter().find_map(|finding| {
        let part = target.part(target.part_at(finding.span.start));
        let reason = match part.tricks {
            tricks if tricks.rounds >= 2 => "is percent-encoded more than once",
            tricks if tricks.overlong => "hides characters as overlong UTF-8",
            tricks if tricks.lookalike => "writes ASCII as other characters",
            tricks if tricks.nul => "contains a NUL",
            _ => return None,
        };
        Some(Finding { ground: Ground::Dress, weight: 15, span: finding.span.clone(), reason, reference: None })
    });
    if let Some(finding) = dressed {
        found.put(finding);
    }
}

fn verdict(target: &Target, found: &Findings) -> Option<Verdict> {
    let (class, score) = found.sum().filter(|(_, score)| *score >= NOTABLE)?;
    let strongest = found.strongest(class)?;
    Some(Verdict {
        class,
        score,
        matched: indicator::printable(target.slice(strongest.span.clone())),
        reason: format!("The request {} in {}.", strongest.reason, place_of(target, strongest)),
        reference: strongest.reference.or_else(|| family(class)).map(str::to_owned),
        indicators: indicator::collect(target, found),
    })
}

fn place_of(target: &Target, finding: &Finding) -> String {
    let part = target.part(target.part_at(finding.span.start));
    place_name(part.place, part.name)
}

fn place_name(place: Place, name: &[u8]) -> String {
    match place {
        Place::Path => "the path".to_owned(),
        Place::Name => "a parameter's name".to_owned(),
        Place::Value => format!("parameter `{}`", indicator::printable(&name[..name.len().min(64)])),
        Place::UserAgent => "the user agent".to_owned(),
        Place::Referer => "the referer".to_owned(),
    }
}

/// What decoding undid, in brackets; nothing for what was written plainly.
fn undone(tricks: Tricks) -> String {
    let tricks = [
        (tricks.rounds == 1, "percent-encoded"),
        (tricks.rounds == 2, "percent-encoded twice"),
        (tricks.rounds > 2, "percent-encoded more than twice"),
        (tricks.overlong, "overlong UTF-8"),
        (tricks.lookalike, "ASCII as other characters"),
        (tricks.nul, "a NUL in it"),
        (tricks.entity, "HTML entities"),
    ];
    let names: Vec<_> = tricks.into_iter().filter_map(|(used, name)| used.then_some(name)).collect();
    if names.is_empty() { String::new() } else { format!("  (was: {})", names.join(", ")) }
}

/// The rule family of the OWASP Core Rule Set, or the CWE, that covers a class.
const fn family(class: AttackClass) -> Option<&'static str> {
    Some(match class {
        AttackClass::Sqli | AttackClass::Nosqli => "CRS 942",
        AttackClass::Cmdi | AttackClass::Shellshock => "CRS 932",
        AttackClass::Traversal | AttackClass::Probe => "CRS 930",
        AttackClass::Rfi => "CRS 931",
        AttackClass::Ssrf | AttackClass::Ssti => "CRS 934",
        AttackClass::JavaInjection | AttackClass::Deserialization => "CRS 944",
        AttackClass::CodeInjection => "CRS 933",
        AttackClass::Xss => "CRS 941",
        AttackClass::Crlf | AttackClass::Ldapi | AttackClass::MailInjection => "CRS 921",
        AttackClass::ScannerUa => "CRS 913",
        AttackClass::Xxe => "CWE-611",
        AttackClass::Ssi => "CWE-97",
        AttackClass::Webshell => "CWE-506",
        AttackClass::OpenRedirect | AttackClass::AuthBypass | AttackClass::CvePath => return None,
    })
}
