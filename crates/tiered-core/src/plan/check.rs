//! What cannot keep its promises is refused, and the error says what to change.

use std::time::Duration;

use crate::capability::{Capabilities, Durability, Feature, Sharing};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::policy::{ReadPolicy, WritePolicy};
use crate::settings::{DefaultTtl, OnOverdue, OnUnknown, Reopen, TieredSettings};

use super::declared::Declared;

/// Sizes of blocks that make sense: a smaller one costs more for its name than for its bytes, and a larger one is more than a
/// request brings.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 20;

/// Refuses a combination of settings, declarations and tiers that cannot keep its promises.
pub(super) fn check(
    settings: &TieredSettings,
    declared: Declared,
    frontend: &Capabilities,
    backend: &Capabilities,
) -> Result<()> {
    let refusal = frontend_refusal(declared, frontend)
        .or_else(|| backend_refusal(settings, backend))
        .or_else(|| journal_refusal(settings, declared, backend))
        .or_else(|| retry_refusal(settings, backend))
        .or_else(|| value_refusal(settings))
        .or_else(|| reopen_refusal(settings, declared, backend));
    match refusal {
        Some(message) => Err(Error::new(ErrorKind::Config, message).during(Operation::Open)),
        None => Ok(()),
    }
}

fn frontend_refusal(declared: Declared, frontend: &Capabilities) -> Option<String> {
    let name = frontend.name();
    if !frontend.has(Feature::KeepsMetadata) || !frontend.has(Feature::KeepsNotes) {
        return Some(format!(
            "{name} cannot be a frontend, since it does not keep metadata and notes; make it the backend, and nest stacks to the right: a over (b over c)"
        ));
    }
    if frontend.sharing() == Sharing::Shared && !declared.has_private_frontend() {
        return Some(format!(
            "a frontend belongs to one tiered store, and {name} can be shared; give each process a frontend of its own, and declare it with declare_private_frontend() (private-frontend = true, --private-frontend)"
        ));
    }
    None
}

/// A store in memory loses everything with its process, and says so. One that lasts is taken for the place where data is
/// safe. A stack that shows its frontend alone evicts as well, but what it is given is in its backend.
fn backend_refusal(settings: &TieredSettings, backend: &Capabilities) -> Option<String> {
    let loses = backend.has(Feature::Evicts)
        && !backend.has(Feature::PartialListings)
        && backend.durability() > Durability::Volatile;
    (loses && settings.write_policy != WritePolicy::FrontendOnly).then(|| {
        format!(
            "{} evicts entries to keep within its capacity, and a backend has the only copy of what it holds; make it the frontend, or give a backend that was made without a capacity",
            backend.name()
        )
    })
}

fn journal_refusal(settings: &TieredSettings, declared: Declared, backend: &Capabilities) -> Option<String> {
    let (policy, name) = (settings.write_policy, backend.name());
    if policy != WritePolicy::WriteBehind {
        let part = if declared.leased().is_some() { "lease" } else { "journal" };
        let given = declared.leased().is_some() || declared.journaled().is_some();
        return given.then(|| format!("{policy} does not use a {part}; remove it or choose write-behind"));
    }
    if declared.journaled().is_none() {
        return Some("write-behind needs a journal; give one with journal(…), a VolatileJournal where losing writes is acceptable".to_owned());
    }
    if declared.others_write(backend.sharing()) {
        return Some(format!(
            "write-behind needs to be the only writer, and {name} can be shared; take a lease(…), or declare_sole_writer() where no other process writes"
        ));
    }
    if settings.max_pending_operations == 0 || settings.max_pending_bytes == 0 {
        return Some("max-pending-operations and max-pending-bytes must be at least 1".to_owned());
    }
    if settings.on_overdue != OnOverdue::Alarm && settings.max_pending_age.is_none() {
        return Some("on-overdue = block or fail needs an age: set max-pending-age".to_owned());
    }
    declared.leased()?;
    if !backend.has(Feature::AtomicBatch) || !backend.has(Feature::ConditionalPut) {
        return Some(format!(
            "a lease needs atomic batches and conditional puts, which {name} lacks; declare_sole_writer() where no other process writes"
        ));
    }
    declared
        .writes_alone()
        .then(|| "a sole writer does not need a lease; remove lease(…) or declare_sole_writer()".to_owned())
}

fn retry_refusal(settings: &TieredSettings, backend: &Capabilities) -> Option<String> {
    if settings.on_unknown != OnUnknown::Retry {
        return None;
    }
    let policy = settings.write_policy;
    if !matches!(policy, WritePolicy::WriteThrough | WritePolicy::WriteAround) {
        return Some(format!("{policy} does not use on-unknown = retry; remove it"));
    }
    let conditional = backend.has(Feature::ConditionalPut) && backend.has(Feature::ConditionalDelete);
    (!conditional).then(|| {
        format!(
            "on-unknown = retry needs conditional puts and deletes, which {} lacks; report unknown outcomes instead",
            backend.name()
        )
    })
}

fn value_refusal(settings: &TieredSettings) -> Option<String> {
    let breakers = [settings.backend_breaker, settings.frontend_breaker];
    if breakers.into_iter().flatten().any(|breaker| breaker.failures == 0 || breaker.pause.is_zero()) {
        return Some("a breaker's failures must be at least 1, and its pause longer than 0s".to_owned());
    }
    if settings.write_policy == WritePolicy::FrontendOnly && settings.frontend_breaker.is_some() {
        return Some(
            "frontend-only cannot do without its frontend, so it takes no frontend-breaker; remove it"
                .to_owned(),
        );
    }
    if settings.write_policy == WritePolicy::WriteAround && settings.read_policy == ReadPolicy::FrontendOnly {
        return Some(
            "write-around with reads from the frontend alone never sees a write; read frontend-first"
                .to_owned(),
        );
    }
    if settings.block_size.is_some_and(|bytes| !BLOCK_SIZES.contains(&bytes)) {
        return Some(
            "block-size must be from 1KiB to 16MiB; set it to off (None) to keep no blocks".to_owned(),
        );
    }
    zero_refusal(settings)
}

/// Refuses a time of zero where nothing can be done in it. It is meant as no limit, or as not using the feature.
fn zero_refusal(settings: &TieredSettings) -> Option<String> {
    if settings.frontend_patience.is_zero() {
        return Some("frontend-patience must be longer than 0s".to_owned());
    }
    let times = [
        ("max-pending-age", settings.max_pending_age),
        ("write-deadline", settings.write_deadline),
        ("read-timeout", settings.read_timeout),
        ("negative-ttl", settings.negative_ttl),
    ];
    let of_prefixes = settings.prefix_ttl.values().map(|ttl| ("prefix-ttl", ttl));
    let mut ttls = of_prefixes.chain([("default-ttl", &settings.default_ttl)]);
    if let Some((name, _)) = ttls.find(|(_, ttl)| **ttl == DefaultTtl::After(Duration::ZERO)) {
        return Some(format!("{name} must be longer than 0s; write never to do without one"));
    }
    let (name, _) = times.into_iter().find(|(_, time)| time.is_some_and(|time| time.is_zero()))?;
    Some(format!("{name} must be longer than 0s; set it to off (None) to do without it"))
}

fn reopen_refusal(settings: &TieredSettings, declared: Declared, backend: &Capabilities) -> Option<String> {
    let overwritten =
        settings.reopen == Reopen::Trust && backend.sharing() == Sharing::Shared && !declared.writes_alone();
    overwritten.then(|| {
        format!(
            "reopen = trust serves what others may have overwritten in {}; revalidate, or declare_sole_writer()",
            backend.name()
        )
    })
}
