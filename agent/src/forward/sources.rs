//! Everything that is read, in turns: logs, directories of complete files, standard input. In: the config. Out: lines of
//! one source after the other, so that a large one does not keep the others waiting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ForwardError;
use super::config::{Config, LogConfig};
use super::cursors::Cursors;
use super::log::{Feed, Log, Read, Turn};
use super::pattern;
use super::progress::{Counters, NAMED_MAX};
use super::stdin::Stdin;
use super::tree::Tree;
use crate::edge::formats;

/// How often patterns are looked at for new logs.
const RESCAN: Duration = Duration::from_secs(5);
/// Rescans after which a log that is no more is let go: between the two steps of a rotation every log is missing.
const MISSING_MAX: u32 = 12;
/// Logs followed at most.
const LOGS_MAX: usize = 1024;

/// All sources.
#[derive(Debug)]
pub(super) struct Sources {
    patterns: Vec<LogConfig>,
    logs: BTreeMap<PathBuf, Followed>,
    trees: Vec<Tree>,
    stdin: Option<Stdin>,
    once: bool,
    next_scan: Instant,
    first_scan: bool,
    refused: bool,
}

#[derive(Debug)]
struct Followed {
    log: Log,
    missing: u32,
}

/// What a round over all sources brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Something was read.
    pub(super) progressed: bool,
    /// Nothing is to be expected any more.
    pub(super) over: bool,
}

impl Sources {
    /// Takes the config's sources up; standard input as well where that is wanted.
    ///
    /// # Errors
    ///
    /// Standard input cannot be read.
    pub(super) fn open(config: &Config, once: bool, stdin: bool) -> Result<Self, ForwardError> {
        let logs = config.logs.len();
        let tree = |(index, objects): (usize, &super::config::ObjectsConfig)| {
            Tree::new(objects, Feed::new(number(logs + index), &objects.source, &objects.format), once)
        };
        let feed = Feed::new(u32::MAX, "", &formats::Config::default());
        let open = || Stdin::open(std::io::stdin(), feed).map_err(|error| ForwardError::Stdin(error.to_string()));
        Ok(Self {
            patterns: config.logs.clone(),
            logs: BTreeMap::new(),
            trees: config.objects.iter().enumerate().map(tree).collect(),
            stdin: stdin.then(open).transpose()?,
            once,
            next_scan: Instant::now(),
            first_scan: true,
            refused: false,
        })
    }

    /// Lets every source have one turn; what it reads goes to `pack` at once.
    ///
    /// # Errors
    ///
    /// What `pack` gives: then the source has moved on, and its position must not be saved.
    pub(super) fn round<E>(
        &mut self,
        cursors: &Cursors,
        counters: &Counters,
        mut pack: impl FnMut(&mut Feed, Read) -> Result<(), E>,
    ) -> Result<Round, E> {
        let now = Instant::now();
        if now >= self.next_scan {
            self.find_logs(cursors);
            self.first_scan = false;
            self.next_scan = now + RESCAN;
        }
        let mut round = Round { progressed: false, over: self.once || self.is_stdin_only() };
        for Followed { log, .. } in self.logs.values_mut() {
            let turn = log.turn(now, counters);
            round.take(turn, &mut log.feed, &mut pack)?;
        }
        for tree in &mut self.trees {
            let turn = tree.turn(now, cursors, counters);
            round.take(turn, tree.feed(), &mut pack)?;
        }
        if let Some(stdin) = &mut self.stdin {
            let turn = stdin.turn(counters);
            round.take(turn, &mut stdin.feed, &mut pack)?;
        }
        Ok(round)
    }

    /// A pipe ends, a log does not.
    fn is_stdin_only(&self) -> bool {
        self.stdin.is_some() && self.patterns.is_empty() && self.trees.is_empty()
    }

    fn find_logs(&mut self, cursors: &Cursors) {
        let mut found: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (index, log) in self.patterns.iter().enumerate() {
            for path in pattern::files(&log.path) {
                found.entry(path).or_insert(index);
            }
        }
        let kept = pattern::without_rotated(found.keys().cloned().collect());
        for followed in self.logs.values_mut() {
            followed.missing = if kept.contains(&followed.log.path) { 0 } else { followed.missing + 1 };
        }
        self.logs.retain(|_, followed| followed.missing < MISSING_MAX);
        for path in kept {
            if self.logs.contains_key(&path) {
                continue;
            }
            self.refused = self.logs.len() >= LOGS_MAX;
            if self.refused {
                return;
            }
            let Some((index, config)) = found.get(&path).and_then(|index| Some((*index, self.patterns.get(*index)?)))
            else {
                continue;
            };
            let feed = Feed::new(number(index), &config.source, &config.format);
            // A log that comes later is new as a whole.
            let from_end = config.from_end && self.first_scan;
            let log = Log::follow(&path, feed, from_end, config.poll, self.once, cursors);
            self.logs.insert(path, Followed { log, missing: 0 });
        }
    }

    /// What cannot be read at the moment.
    pub(super) fn troubles(&self) -> Vec<String> {
        let logs = self.logs.values().filter_map(|followed| followed.log.trouble.clone());
        let trees = self.trees.iter().filter_map(|tree| tree.trouble.clone());
        let stdin = self.stdin.iter().filter_map(|stdin| stdin.trouble.clone());
        let refused = self.refused.then(|| format!("more than {LOGS_MAX} logs; the others are not followed"));
        refused.into_iter().chain(logs).chain(trees).chain(stdin).take(NAMED_MAX).collect()
    }
}

impl Round {
    fn take<E>(
        &mut self,
        turn: Turn,
        feed: &mut Feed,
        pack: &mut impl FnMut(&mut Feed, Read) -> Result<(), E>,
    ) -> Result<(), E> {
        match turn {
            Turn::Lines(read) => {
                self.progressed = true;
                self.over = false;
                pack(feed, read)
            }
            Turn::Idle => {
                self.over = false;
                Ok(())
            }
            Turn::Over => Ok(()),
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
