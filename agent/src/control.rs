//! What an operator may ask of a running agent, and tell it: over a local socket, root's alone. In: one [`Request`]. Out: one
//! answer, a JSON value or a sentence that says why not.
//!
//! The commands do the same on the state directory when no agent runs: [`Memory::apply`] is the one place where it is done.

pub mod socket;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::baseline::Baseline;
use crate::expectation::{ExpectationError, Expectations};
use crate::incident::{Expected, Incident};
use crate::store::{Blob, Store};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Under which name this agent keeps its baseline and its checkpoint.
pub const OWN: &str = "agent";
/// Under which name what other hosts know stands beside the baseline.
pub const FLEET: &str = "fleet";
/// Under which name the expectations stand beside the baseline.
pub const EXPECTATIONS: &str = "expectations";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// How the agent is.
    Status,
    /// Every incident kept, at a glance.
    Incidents,
    /// The revisions of one incident, oldest first.
    Incident {
        /// Which.
        id: String,
    },
    /// How well each workload is seen.
    Coverage,
    /// What is normal, as its versioned form: of one workload, or of all.
    Baseline {
        /// Which.
        workload: Option<WorkloadKey>,
    },
    /// Takes over what another host learned.
    ImportBaseline {
        /// Its versioned form.
        baseline: Value,
    },
    /// Forgets what is normal on a workload: it is learned anew.
    Forget {
        /// Which.
        workload: WorkloadKey,
    },
    /// Lets a workload start with what another one's habits are: a service under a new name.
    Inherit {
        /// From which.
        from: WorkloadKey,
        /// To which.
        to: WorkloadKey,
    },
    /// This incident and its like are expected.
    Expect {
        /// Which.
        id: String,
        /// Who says so, why, until when.
        said: Expected,
    },
    /// What is expected.
    Expected,
    /// It is not expected any more.
    Withdraw {
        /// The incident that it was made from.
        id: String,
    },
}

/// An answer, or why there is none.
pub type Answer = Result<Value, String>;

/// A request on its way to the engine.
#[derive(Debug)]
pub struct Ask {
    /// What.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such incident.
    #[error("there is no incident {id}; `breachline incidents list` names those that are kept")]
    NoIncident {
        /// As asked.
        id: String,
    },
    /// No such workload.
    #[error("nothing is known of workload {workload}; `breachline baseline show` names those that are known")]
    NoWorkload {
        /// As asked.
        workload: WorkloadKey,
    },
    /// Nothing was marked so.
    #[error("incident {id} is not expected; `breachline incidents expected` lists what is")]
    NotExpected {
        /// As asked.
        id: String,
    },
    /// It cannot be expected.
    #[error(transparent)]
    Expectation(#[from] ExpectationError),
    /// The baseline does not read.
    #[error(transparent)]
    Baseline(#[from] crate::baseline::BaselineError),
    /// Not for what is learned.
    #[error("only a running agent can answer this; start it (`breachline run`)")]
    NeedsAgent,
    /// It does not read or write as JSON.
    #[error("not in a form that can be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is learned, and what was told: all that a request may change.
#[derive(Debug)]
pub struct Memory<'m> {
    /// What is normal.
    pub baseline: &'m mut Baseline,
    /// What is expected.
    pub expectations: &'m mut Expectations,
}

impl Memory<'_> {
    /// Does what is asked; `store` has the incidents.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn apply(&mut self, request: &Request, store: &Store, now: Timestamp) -> Result<Value, ControlError> {
        match request {
            Request::Status | Request::Coverage => Err(ControlError::NeedsAgent),
            Request::Incidents => Ok(serde_json::to_value(store.incidents())?),
            Request::Incident { id } => revisions(store, id),
            Request::Baseline { workload } => self.export(workload.as_ref()),
            Request::ImportBaseline { baseline } => {
                let other = Baseline::from_bytes(self.baseline.config(), &serde_json::to_vec(baseline)?)?;
                self.baseline.import(&other);
                Ok(serde_json::to_value(other.workloads())?)
            }
            Request::Forget { workload } => self.known(workload, |baseline| baseline.forget(workload)),
            Request::Inherit { from, to } => self.known(from, |baseline| baseline.inherit(from, to)),
            Request::Expect { id, said } => {
                let latest = store.revisions(id).pop().ok_or_else(|| ControlError::NoIncident { id: id.clone() })?;
                let incident: Incident = serde_json::from_slice(&latest)?;
                Ok(serde_json::to_value(self.expectations.expect(&incident, said.clone(), now)?)?)
            }
            Request::Expected => Ok(serde_json::to_value(self.expectations.list())?),
            Request::Withdraw { id } if self.expectations.withdraw(id) => Ok(Value::Null),
            Request::Withdraw { id } => Err(ControlError::NotExpected { id: id.clone() }),
        }
    }

    fn export(&self, workload: Option<&WorkloadKey>) -> Result<Value, ControlError> {
        let bytes = match workload {
            None => self.baseline.to_bytes()?,
            Some(workload) => {
                let alone = self.baseline.of(workload);
                alone.ok_or_else(|| ControlError::NoWorkload { workload: workload.clone() })?.to_bytes()?
            }
        };
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn known(
        &mut self,
        workload: &WorkloadKey,
        change: impl FnOnce(&mut Baseline) -> bool,
    ) -> Result<Value, ControlError> {
        if change(self.baseline) {
            Ok(Value::Null)
        } else {
            Err(ControlError::NoWorkload { workload: workload.clone() })
        }
    }

    /// Puts both into the store; they are on disk with its next sync.
    pub fn save(&self, store: &Store) {
        match self.baseline.to_bytes() {
            Ok(bytes) => store.save(Blob::Baseline, OWN, &bytes),
            Err(error) => tracing::error!(%error, "what is normal here cannot be saved"),
        }
        match self.expectations.to_bytes() {
            Ok(bytes) => store.save(Blob::Baseline, EXPECTATIONS, &bytes),
            Err(error) => tracing::error!(%error, "what is expected cannot be saved"),
        }
    }
}

impl Request {
    /// Whether it changes what the agent remembers.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(
            self,
            Self::ImportBaseline { .. }
                | Self::Forget { .. }
                | Self::Inherit { .. }
                | Self::Expect { .. }
                | Self::Withdraw { .. }
        )
    }
}

/// The revisions of an incident as JSON values.
///
/// # Errors
///
/// There is no such incident.
pub fn revisions(store: &Store, id: &str) -> Result<Value, ControlError> {
    let revisions = store.revisions(id);
    if revisions.is_empty() {
        return Err(ControlError::NoIncident { id: id.to_owned() });
    }
    let values: Result<Vec<Value>, _> = revisions.iter().map(|json| serde_json::from_slice(json)).collect();
    Ok(Value::Array(values?))
}
