//! The detector on recordings: the same pure stages with virtual time, no root, no clock.
//!
//! In: a host recording and any number of edge logs. Out: every revision raised, in order. Inputs are merged by their own times
//! (an edge line counts as arriving when its response was complete), so a replay is deterministic and shows what a live agent
//! would have raised, and when. With a state directory it can be killed at any moment and resumed ([`resume`]).

pub mod recording;
pub mod resume;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::recording::{HostEvents, RecordingError, open_lines, read_line};
use self::resume::{Progress, Resume, ResumeError};
use crate::config::Config;
use crate::detector::Detector;
use crate::edge::EdgeError;
use crate::edge::formats::Format;
use crate::event::HostEvent;
use crate::expectation::Expectations;
use crate::incident::Incident;
use crate::lists::files::Files;
use crate::status::Status;
use crate::timestamp::Timestamp;

/// Virtual time between two calls of [`Detector::advance`]: the live engine's tick would be needlessly fine for a month.
const TICK: Duration = Duration::from_secs(60);

/// Recordings that are replayed together.
#[derive(Debug, Clone, Copy)]
pub struct Recordings<'r> {
    /// Host events.
    pub host: Option<&'r Path>,
    /// Edge logs.
    pub edge: &'r [PathBuf],
}

/// What a replay did.
#[derive(Debug)]
pub struct Summary {
    /// Counters and unread lines, as `status` shows them.
    pub status: Status,
    /// Time of the last input.
    pub until: Timestamp,
    /// Inputs that an earlier run had replayed already.
    pub resumed_after: u64,
}

/// Replays recordings; `raise` hears every revision as it is raised, and may stop the replay by an error. What `expectations`
/// cover is marked. With a `memory`, goes on where the last run with it was, and saves how far it is: a revision is in the memory
/// only after `raise` returned, so a replay that was killed may raise its last revisions once more, the same to the byte.
///
/// # Errors
///
/// A file that cannot be read or is no recording, with file and line; a memory of other recordings; whatever `raise` returns.
pub fn replay<E: From<RecordingError> + From<EdgeError> + From<ResumeError>>(
    config: &Config,
    recordings: Recordings<'_>,
    expectations: Option<Expectations>,
    mut memory: Option<Resume<'_>>,
    mut raise: impl FnMut(&Incident) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut inputs = Inputs::open(recordings.host, recordings.edge)?;
    let mut detector = match &memory {
        Some(memory) => memory.detector(config)?,
        None => Detector::new(config)?,
    };
    if let Some(expectations) = expectations {
        detector.set_expectations(expectations);
    }
    if let Some(lists) = Files::new(config.lists.clone()).changed() {
        detector.set_lists(lists);
    }
    let mut progress = match &memory {
        Some(memory) => memory.recall::<E>(&mut inputs, &mut detector)?,
        None => Progress::default(),
    };
    let resumed_after = progress.inputs;
    let mut raised = Vec::new();
    while let Some((at, input)) = inputs.next()? {
        let due = progress.count(at);
        match input {
            Input::Host(event) => drop(detector.host(&event, &mut raised)),
            Input::Edge { source, line } => detector.edge(source, line, &mut raised),
        }
        if due {
            detector.advance(progress.until, &mut raised);
        }
        hand_over(&mut raised, &mut detector, memory.as_mut(), &progress, &mut raise)?;
    }
    detector.advance(progress.until, &mut raised);
    hand_over(&mut raised, &mut detector, memory.as_mut(), &progress, &mut raise)?;
    if let Some(memory) = &mut memory {
        memory.save(&mut detector, &progress, &[])?;
    }
    let mut status = Status::starting(progress.first);
    status.taken = progress.until;
    detector.describe(progress.until, &mut status);
    Ok(Summary { status, until: progress.until, resumed_after })
}

/// Lets `raise` hear what was raised, then saves it together with how far the replay is.
fn hand_over<E: From<ResumeError>>(
    raised: &mut Vec<Incident>,
    detector: &mut Detector,
    memory: Option<&mut Resume<'_>>,
    progress: &Progress,
    raise: &mut impl FnMut(&Incident) -> Result<(), E>,
) -> Result<(), E> {
    raised.iter().try_for_each(raise)?;
    if let Some(memory) = memory
        && (!raised.is_empty() || memory.is_due(progress))
    {
        memory.save(detector, progress, raised)?;
    }
    raised.clear();
    Ok(())
}

enum Input<'i> {
    Host(Box<HostEvent>),
    Edge { source: &'i str, line: &'i [u8] },
}

/// All inputs, merged by time.
struct Inputs {
    host: Option<HostEvents>,
    next_host: Option<HostEvent>,
    edge: Vec<EdgeLines>,
    /// The edge log whose line was given last: it has to move on.
    taken: Option<usize>,
}

impl Inputs {
    fn open(host: Option<&Path>, edge: &[PathBuf]) -> Result<Self, RecordingError> {
        let mut host = host.map(HostEvents::open).transpose()?;
        let next_host = host.as_mut().and_then(Iterator::next).transpose()?;
        let edge = edge.iter().map(|path| EdgeLines::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { host, next_host, edge, taken: None })
    }

    fn next(&mut self) -> Result<Option<(Timestamp, Input<'_>)>, RecordingError> {
        if let Some(taken) = self.taken.take() {
            self.edge[taken].advance()?;
        }
        let earliest = self.edge.iter().enumerate().filter(|(_, lines)| !lines.ended).min_by_key(|(_, lines)| lines.at);
        let earliest = earliest.map(|(index, lines)| (index, lines.at));
        match (&self.next_host, earliest) {
            (Some(event), edge) if edge.is_none_or(|(_, at)| event.at <= at) => {
                let following = self.host.as_mut().and_then(Iterator::next).transpose()?;
                let event = std::mem::replace(&mut self.next_host, following);
                Ok(event.map(|event| (event.at, Input::Host(Box::new(event)))))
            }
            (_, Some((index, at))) => {
                self.taken = Some(index);
                let lines = &self.edge[index];
                Ok(Some((at, Input::Edge { source: &lines.source, line: &lines.line })))
            }
            (_, None) => Ok(None),
        }
    }
}

/// One edge log, a line at a time.
struct EdgeLines {
    path: PathBuf,
    source: String,
    reader: Box<dyn BufRead>,
    format: Option<Format>,
    line: Vec<u8>,
    /// When the current line's response was complete; an unreadable line takes the time before it.
    at: Timestamp,
    ended: bool,
}

impl EdgeLines {
    fn open(path: &Path) -> Result<Self, RecordingError> {
        let mut lines = Self {
            path: path.to_owned(),
            source: format!("file:{}", path.display()),
            reader: open_lines(path)?,
            format: None,
            line: Vec::new(),
            at: Timestamp::MIN,
            ended: false,
        };
        lines.advance()?;
        Ok(lines)
    }

    fn advance(&mut self) -> Result<(), RecordingError> {
        let read = read_line(&mut *self.reader, &mut self.line)
            .map_err(|source| RecordingError::Io { path: self.path.clone(), source })?;
        self.ended = !read;
        if read {
            self.format = self.format.or_else(|| Format::detect(&self.line));
            let record = self.format.and_then(|format| format.parse(&self.line).ok());
            self.at = record.map_or(self.at, |record| record.completed);
        }
        Ok(())
    }
}
