//! What judges find, and how it adds up to a score.

use std::ops::Range;

use crate::request::AttackClass;

/// Most findings kept of one request; the rest is counted out. A request that earns this many is far past any
/// threshold.
const MAX_FINDINGS: usize = 48;

/// What stands behind a finding.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Input of a class.
    Class(AttackClass),
    /// How the input was dressed: counts for whatever class it came with.
    Dress,
}

/// One reason to think a request hostile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Of what kind.
    pub(super) ground: Ground,
    /// Points; [`crate::request::Verdict::EXPLOIT_LIKE`] of them make a request exploit-like.
    pub(super) weight: u8,
    /// Where in the decoded request.
    pub(super) span: Range<usize>,
    /// Why it counts: the rest of a sentence that begins with "the request".
    pub(super) reason: &'static str,
    /// CVE or CRS rule family.
    pub(super) reference: Option<&'static str>,
}

/// All findings of one request.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Adds a finding of `class`. The same reason counts once, at its best.
    pub(super) fn add(&mut self, class: AttackClass, weight: u8, span: Range<usize>, reason: &'static str) {
        self.put(Finding { ground: Ground::Class(class), weight, span, reason, reference: None });
    }

    /// Adds a finding with its reference.
    pub(super) fn put(&mut self, finding: Finding) {
        match self.position(finding.ground, finding.reason) {
            Some(at) if self.list[at].weight < finding.weight => self.list[at] = finding,
            Some(_) => {}
            None if self.list.len() < MAX_FINDINGS => self.list.push(finding),
            None => {}
        }
    }

    /// Whether a finding of `class` for this reason, of `weight` points at most, would change nothing: the same was found
    /// before. Looking for what is found already would make a request that repeats itself dear.
    pub(super) fn has(&self, class: AttackClass, weight: u8, reason: &'static str) -> bool {
        self.position(Ground::Class(class), reason).is_some_and(|at| self.list[at].weight >= weight)
    }

    fn position(&self, ground: Ground, reason: &'static str) -> Option<usize> {
        // One text may have several addresses; most of the time the first comparison tells.
        let same =
            |kept: &Finding| kept.ground == ground && (std::ptr::eq(kept.reason, reason) || kept.reason == reason);
        self.list.iter().position(same)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter()
    }

    /// The class with the most points, and the score: that class' points and those of its dress, at most 100. Dress
    /// alone is no class.
    pub(super) fn sum(&self) -> Option<(AttackClass, u8)> {
        let points = |ground: Ground| -> u32 {
            self.list.iter().filter(|finding| finding.ground == ground).map(|finding| u32::from(finding.weight)).sum()
        };
        let mut best: Option<(AttackClass, u32)> = None;
        for finding in &self.list {
            let Ground::Class(class) = finding.ground else { continue };
            let sum = points(finding.ground);
            // Ties go to the class that comes first in the enum: it stands nearer to a shell.
            if best.is_none_or(|(kept, most)| sum > most || (sum == most && class < kept)) {
                best = Some((class, sum));
            }
        }
        let (class, sum) = best?;
        Some((class, u8::try_from((sum + points(Ground::Dress)).min(100)).unwrap_or(100)))
    }

    /// The heaviest finding of `class`.
    pub(super) fn strongest(&self, class: AttackClass) -> Option<&Finding> {
        // `max_by_key` gives the last of equals; the first one is the one a reader meets first in the request.
        self.list
            .iter()
            .rev()
            .filter(|finding| finding.ground == Ground::Class(class))
            .max_by_key(|finding| finding.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_within_a_class() {
        let mut found = Findings::default();
        assert_eq!(found.sum(), None);
        found.add(AttackClass::Xss, 30, 0..1, "a");
        found.add(AttackClass::Xss, 20, 0..1, "b");
        found.add(AttackClass::Sqli, 45, 0..1, "c");
        assert_eq!(found.sum(), Some((AttackClass::Xss, 50)));
        found.add(AttackClass::Xss, 25, 0..1, "b");
        assert_eq!(found.sum(), Some((AttackClass::Xss, 55)), "one reason counts once, at its best");
        found.put(Finding { ground: Ground::Dress, weight: 60, span: 0..1, reason: "d", reference: None });
        assert_eq!(found.sum(), Some((AttackClass::Xss, 100)));
    }

    #[test]
    fn dress_alone_is_no_class() {
        let mut found = Findings::default();
        found.put(Finding { ground: Ground::Dress, weight: 60, span: 0..1, reason: "d", reference: None });
        assert_eq!(found.sum(), None);
    }

    #[test]
    fn findings_are_bounded() {
        let reasons: Vec<&'static str> = (0..200).map(|number| &*format!("{number}").leak()).collect();
        let mut found = Findings::default();
        for reason in reasons {
            found.add(AttackClass::Xss, 1, 0..1, reason);
        }
        assert_eq!(found.iter().count(), MAX_FINDINGS);
    }
}
