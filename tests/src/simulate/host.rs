//! One host under the detector: inputs in the order in which they arrive, time passing in between, incidents out.

use std::collections::BTreeMap;

use breachline::config::Config;
use breachline::detector::Detector;
use breachline::event::HostEvent;
use breachline::incident::{Incident, Severity};
use breachline::timestamp::Timestamp;

use super::access_log::Line;
use super::later;

/// Virtual seconds between two calls of [`Detector::advance`]; the live engine's second would only cost.
const TICK: f64 = 10.0;

/// Something that arrives at the agent.
#[derive(Clone, Debug)]
pub enum Input {
    /// From the kernel half.
    Host(Box<HostEvent>),
    /// From a load balancer.
    Line(Box<Line>),
}

/// Something with the time of its arrival.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it reaches the agent.
    pub at: Timestamp,
    /// Order among arrivals of one moment.
    pub order: u64,
    /// What.
    pub input: Input,
}

/// An incident as it stands at the end.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its last revision.
    pub last: Incident,
    /// Highest severity of any revision.
    pub peak: Severity,
    /// When its first revision went out.
    pub raised: Timestamp,
}

/// The detector of one host.
#[derive(Debug)]
pub struct Watched {
    /// The detector.
    pub detector: Detector,
    /// Incidents by id, those found to be part of another left out at the end.
    pub told: BTreeMap<String, Told>,
    /// Host events fed.
    pub events: u64,
    /// Lines fed.
    pub lines: u64,
    now: Timestamp,
    next_tick: Timestamp,
    text: String,
    raised: Vec<Incident>,
}

impl Watched {
    /// A detector that knows nothing.
    ///
    /// # Errors
    ///
    /// The config cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            detector: Detector::new(config)?,
            told: BTreeMap::new(),
            events: 0,
            lines: 0,
            now: Timestamp::MIN,
            next_tick: Timestamp::MIN,
            text: String::new(),
            raised: Vec::new(),
        })
    }

    /// Time passes until `now`.
    pub fn advance(&mut self, now: Timestamp) {
        if self.next_tick == Timestamp::MIN {
            self.next_tick = now;
        }
        while self.next_tick <= now {
            self.detector.advance(self.next_tick, &mut self.raised);
            self.now = self.now.max(self.next_tick);
            self.take();
            self.next_tick = later(self.next_tick, TICK);
        }
    }

    /// Something arrives.
    pub fn arrive(&mut self, arrival: &Arrival) {
        self.advance(arrival.at);
        self.now = self.now.max(arrival.at);
        match &arrival.input {
            Input::Host(event) => {
                self.events += 1;
                self.detector.host(event, &mut self.raised);
            }
            Input::Line(line) => {
                self.lines += 1;
                line.render(&mut self.text);
                self.detector.edge(&line.service, self.text.as_bytes(), &mut self.raised);
            }
        }
        self.take();
    }

    /// Everything that was raised, once nothing can change it any more.
    pub fn settle(&mut self) {
        self.advance(later(self.now, 26.0 * 3600.0));
        self.told.retain(|_, told| told.last.superseded_by.is_none());
    }

    fn take(&mut self) {
        for incident in self.raised.drain(..) {
            let told = self.told.entry(incident.id.clone()).or_insert_with(|| Told {
                last: incident.clone(),
                peak: incident.severity,
                raised: self.now,
            });
            told.peak = told.peak.max(incident.severity);
            told.last = incident;
        }
    }
}

/// Sorts arrivals and feeds those before `until`; the rest waits.
pub fn feed(watched: &mut Watched, pending: &mut Vec<Arrival>, until: Timestamp) {
    pending.sort_unstable_by_key(|arrival| (arrival.at, arrival.order));
    let split = pending.partition_point(|arrival| arrival.at < until);
    let rest = pending.split_off(split);
    for arrival in std::mem::replace(pending, rest) {
        watched.arrive(&arrival);
    }
    watched.advance(until);
}
