//! Scanners that name themselves in the user agent.

use std::ops::ControlFlow;

use super::finding::Findings;
use super::sieve::Sieve;
use super::target::Part;
use super::words::{Hit, Words};
use crate::request::AttackClass::{ScannerUa, Webshell};

/// Names that vulnerability scanners, fuzzers and exploit tools put in their agent string (their documentation and
/// defaults).
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "acunetix", "appscan", "appspider", "arachni", "absinthe", "alittle client", "autogetcontent", "bbscan", "bfac", "bilbo", "brutus",
    "bewica-security-scan", "burpcollaborator", "burpsuite", "cgichk", "cmsmap", "cmsmonkey", "commix",
    "core-project/1.0", "crowbar", "dalfox", "datacha0s", "davtest", "dav.pm", "detectify", "dirbuster", "dirhunter",
    "dirsearch", "domino hunter", "dotdotpwn", "droopescan", "email extractor", "evuln.com", "feroxbuster", "fhscan",
    "fimap", "floodgate", "fscan", "fuzz faster", "ffuf", "get-minimal", "ghauri", "gobuster", "gootkit auto-rooter",
    "grabber", "graphw00f", "grendel-scan", "gospider", "hakrawler", "havij", "hexometer", "httprobe", "httpx - ",
    "(hydra)", "inspath", "internet ninja", "ironwasp", "jaeles", "jaascois", "jbrofuzz", "jorgee", "joomscan",
    "kadimus", "katana", "kiterunner", "l9explore", "l9scan", "l9tcpid", "hakai/", "mozi.", "lfisuite", "libredtail", "liffy", "libwhisker", "leakix", "masscan",
    "metis", "metasploit", "morfeus", "mozlila", "mozilla/5.g", "mozilla/4.0 (compatible; msie 6.0; msie 5.5",
    "mysqloit", "n-stalker", "naabu", "nessus", "netlab360", "netsparker", "invicti", "nikto", "nmap", "nsauditor",
    "nuclei", "openvas", "greenbone", "owasp", "paros", "paros proxy", "patatat", "panoptic", "pmafind", "prtg-scan",
    "pyfimap", "qualys", "rapid7", "researchscan", "retire.js", "sitelockspider", "s.t.a.l.k.e.r.", "safexplorer",
    "securityagent", "secret search", "shortscan", "skipfish", "sn1per", "springenwerk", "sql power injector",
    "sqlmap", "sqlninja", "sqlbrute", "sqlsus", "sstimap", "struts-pwn", "sysscan", "teh forest lobster",
    "this is an exploit", "tplmap", "toata dragostea", "trufflehog", "uil2pn", "vega/", "voideye", "w3af", "wapiti",
    "wafw00f", "wallpapers hd", "wappalyzer-scan", "webbandit", "webinspect", "webscarab", "webshag",
    "webtrends security analyzer", "wfuzz", "whatwaf", "whatweb", "whcc/", "whitehat", "wordpress hash grabber",
    "wpscan", "wprecon", "wpoison", "x-scan", "xmlrpc exploit", "xsser", "xsstrike", "xspider", "yakit", "zaproxy",
    "zap/", "zgrab", "zmeu", "zmap", "cyberdog", "black widow", "blackwidow", "advanced email", "amiga-aweb", "burp",
    "petalbot-exploit", "interactsh", "xray", "goby/", "gau/", "aquatone", "eyewitness", "subfinder", "rustscan",
    "nosqlmap", "crackmapexec", "hello, world", "nimbostratus", "odin scanner", "cve-", "graphql-cop",
    "tsunamisecurityscanner", "tinja", "wpprobe", "securityscan", "security-scan", "vulnscan", "pentest", "exploit",
];

/// Clients of web shells, by the agent they send.
const WEBSHELL_CLIENTS: &[&str] = &["antsword", "behinder", "godzilla", "weevely"];

/// The names, filed.
#[derive(Debug)]
pub(super) struct Scanners {
    words: Words,
    sieve: Sieve,
}

impl Scanners {
    /// Files the names.
    pub(super) fn new() -> Self {
        let names = || NAMES.iter().chain(WEBSHELL_CLIENTS).copied();
        Self { words: Words::new(names()), sieve: Sieve::of_names(names()) }
    }

    /// Whether `user_agent` names a scanner.
    pub(super) fn touches(&self, user_agent: &[u8]) -> bool {
        self.sieve.holds_name(user_agent)
    }

    /// Judges a user agent.
    pub(super) fn judge(&self, part: &Part<'_>, found: &mut Findings) {
        let Some(name) = self.name(part.lower) else { return };
        let span = part.offset + name.start..part.offset + name.end;
        if name.word < NAMES.len() {
            found.add(ScannerUa, 60, span, "comes from a scanner that names itself");
        } else {
            found.add(Webshell, 70, span, "comes from the client of a web shell");
        }
    }

    /// The first name in `text`, as a word that begins there.
    fn name(&self, text: &[u8]) -> Option<Hit> {
        let mut named = None;
        self.words.walk(text, |hit| {
            if hit.start > 0 && text[hit.start - 1].is_ascii_alphanumeric() {
                return ControlFlow::Continue(());
            }
            named = Some(hit);
            ControlFlow::Break(())
        });
        named
    }
}
