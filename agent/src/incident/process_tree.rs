//! The processes of an incident as one tree: lineages in, each process once, parents before children.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::ProcessKey;
use crate::evidence::{Placement, ProcessNode};

/// Most processes that a tree lists: a screen's worth. Without it a fork bomb would fill the record.
pub const PROCESSES_MAX: usize = 48;

/// One process in the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Index of the parent in [`ProcessTree::nodes`]; `None` for a root.
    pub parent: Option<usize>,
    /// The process.
    pub process: ProcessNode,
    /// It owns the workload's listening sockets.
    #[serde(default)]
    pub service: bool,
    /// A step of the timeline is its doing.
    #[serde(default)]
    pub involved: bool,
}

/// Processes, parents before children, siblings by start time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessTree {
    /// The processes. At most [`PROCESSES_MAX`].
    pub nodes: Vec<TreeNode>,
    /// Processes left out.
    #[serde(default)]
    pub omitted: usize,
}

impl ProcessTree {
    /// Merges the lineages of `places`. The order of `places` decides which spelling of a process is shown when two differ
    /// (a process before and after `exec`): the last one.
    #[must_use]
    pub fn of<'p>(places: impl IntoIterator<Item = &'p Placement>) -> Self {
        let mut merged: BTreeMap<ProcessKey, Merged<'p>> = BTreeMap::new();
        for place in places {
            for (depth, node) in place.lineage.iter().enumerate() {
                let parent = place.lineage.get(depth + 1).map(|parent| parent.process);
                let service = place.service.as_ref().is_some_and(|service| service.process == node.process);
                let entry = merged.entry(node.process).or_insert(Merged { node, parent, service, involved: false });
                if node.started >= entry.node.started {
                    entry.node = node;
                }
                entry.parent = entry.parent.or(parent);
                entry.service |= service;
                entry.involved |= depth == 0;
            }
        }
        Self::flatten(&merged)
    }

    fn flatten(merged: &BTreeMap<ProcessKey, Merged<'_>>) -> Self {
        let mut children: BTreeMap<Option<ProcessKey>, Vec<&Merged<'_>>> = BTreeMap::new();
        for process in merged.values() {
            let parent = process.parent.filter(|parent| merged.contains_key(parent) && *parent != process.node.process);
            children.entry(parent).or_default().push(process);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|process| (process.node.started, process.node.process));
        }
        let mut tree = Self::default();
        let mut stack: Vec<(Option<usize>, &Merged<'_>)> = Vec::new();
        stack.extend(children.get(&None).into_iter().flatten().rev().map(|process| (None, *process)));
        while let Some((parent, process)) = stack.pop() {
            if tree.nodes.len() == PROCESSES_MAX {
                break;
            }
            let index = tree.nodes.len();
            let Merged { node, service, involved, .. } = *process;
            tree.nodes.push(TreeNode { parent, process: node.clone(), service, involved });
            let below = children.get(&Some(node.process)).into_iter().flatten().rev();
            stack.extend(below.map(|child| (Some(index), *child)));
        }
        tree.omitted = merged.len() - tree.nodes.len();
        tree
    }
}

struct Merged<'p> {
    node: &'p ProcessNode,
    parent: Option<ProcessKey>,
    service: bool,
    involved: bool,
}
