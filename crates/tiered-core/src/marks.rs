//! The names of the marks that the engine sets.

/// Of a backend: what tells it from others.
pub(crate) const IDENTITY: &str = "tiered.identity";

/// Of a frontend that is kept: the identity of its backend, the session whose entries it has, and whether that goes on.
pub(crate) const BACKEND: &str = "tiered.backend";
pub(crate) const SESSION: &str = "tiered.session";
pub(crate) const IN_USE: &str = "tiered.in-use";

/// All of these.
pub(crate) const SET_BY_OPENINGS: [&str; 4] = [IDENTITY, BACKEND, SESSION, IN_USE];

/// Of a backend: the journals that may hold writes for it.
pub(crate) const JOURNALS: &str = "tiered.journals";

/// What the marks begin with that a prefix of a store has in it, and what a short name follows.
pub(crate) const OF_PREFIXES: &str = "prefix.";
const NAMED: &str = "..";

/// The name of a mark, as the prefix sees it that has it, if one does.
pub(crate) fn within_prefix(mark: &str) -> &str {
    let within = mark.strip_prefix(OF_PREFIXES).and_then(|rest| rest.split_once(NAMED));
    within.map_or(mark, |(_, name)| name)
}
