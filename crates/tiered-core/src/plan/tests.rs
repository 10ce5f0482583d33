//! Every policy over every kind of tier: what the plan answers, and what it refuses.

use super::*;
use crate::capability::Durability;
use crate::error::ErrorKind;
use crate::ownership::JournalsSeen;
use crate::plan::guarantee::Requirement;
use crate::settings::{BreakerSettings, OnOverdue, Reopen};

const MINUTE: Duration = Duration::from_mins(1);

/// A tier that can do everything, and lacks nothing.
fn tier(name: &'static str, durability: Durability, sharing: Sharing) -> Capabilities {
    let able = Capabilities::new(name, durability, sharing);
    let lacks = [Feature::Evicts, Feature::PartialListings, Feature::RepeatsVersions];
    Feature::ALL.iter().copied().filter(|feature| !lacks.contains(feature)).fold(able, Capabilities::with)
}

fn front() -> Capabilities {
    tier("front", Durability::Volatile, Sharing::Exclusive)
}

fn back(sharing: Sharing) -> Capabilities {
    tier("back", Durability::PowerLoss, sharing)
}

fn settings(write: WritePolicy, read: ReadPolicy) -> TieredSettings {
    TieredSettings { write_policy: write, read_policy: read, ..TieredSettings::default() }
}

/// What a write policy needs beside the settings.
fn declared(write: WritePolicy) -> Declared {
    let mut declared = Declared::default();
    if write == WritePolicy::WriteBehind {
        declared.journal(Durability::PowerLoss);
    }
    declared
}

fn plan(write: WritePolicy, read: ReadPolicy, sharing: Sharing) -> Plan {
    let mut declared = declared(write);
    if write == WritePolicy::WriteBehind && sharing == Sharing::Shared {
        declared.lease(Lease::Acquire);
    }
    Plan::of(settings(write, read), declared, &front(), &back(sharing)).expect("a plan")
}

/// The message of a refusal.
fn refusal(settings: TieredSettings, declared: Declared, back: &Capabilities) -> String {
    let error = Plan::of(settings, declared, &front(), back).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.message().to_owned()
}

const POLICIES: [(WritePolicy, ReadPolicy); 7] = [
    (WritePolicy::WriteThrough, ReadPolicy::FrontendFirst),
    (WritePolicy::WriteThrough, ReadPolicy::FrontendOnly),
    (WritePolicy::WriteAround, ReadPolicy::FrontendFirst),
    (WritePolicy::WriteBehind, ReadPolicy::FrontendFirst),
    (WritePolicy::WriteBehind, ReadPolicy::FrontendOnly),
    (WritePolicy::FrontendOnly, ReadPolicy::FrontendFirst),
    (WritePolicy::FrontendOnly, ReadPolicy::FrontendOnly),
];

#[test]
fn writes_go_where_the_policy_says() {
    let through = WriteRoute::Through(OnUnknown::Report);
    let routes = [
        through,
        through,
        through,
        WriteRoute::Behind,
        WriteRoute::Behind,
        WriteRoute::Local,
        WriteRoute::Local,
    ];
    for ((write, read), route) in POLICIES.into_iter().zip(routes) {
        let plan = plan(write, read, Sharing::Exclusive);
        let local = route == WriteRoute::Local;
        assert_eq!(plan.route(), route, "{write} {read}");
        assert_eq!(plan.home(), if local { Side::Frontend } else { Side::Backend }, "{write} {read}");
        assert_eq!((plan.is_local(), plan.writes_backend()), (local, !local), "{write} {read}");
        assert_eq!(plan.keeps_written(), write != WritePolicy::WriteAround, "{write} {read}");
        let pipes = read == ReadPolicy::FrontendFirst && route == through;
        assert_eq!(plan.pipes_streams(), pipes, "{write} {read}");
    }
}

#[test]
fn reads_and_listings_come_from_where_the_policy_says() {
    for (write, read) in POLICIES {
        let plan = plan(write, read, Sharing::Exclusive);
        let (local, alone) = (write == WritePolicy::FrontendOnly, read == ReadPolicy::FrontendOnly);
        let lists = if local || alone { Side::Frontend } else { Side::Backend };
        assert_eq!(plan.lists(), lists, "{write} {read}");
        assert_eq!(plan.revalidates(), !alone, "{write} {read}");
        assert_eq!(plan.loads_together(), !local && !alone, "{write} {read}");
        for (freshness, authoritative) in [
            (Freshness::Cached, false),
            (Freshness::MaxStale(MINUTE), false),
            (Freshness::Authoritative, true),
        ] {
            assert_eq!(plan.frontend_answers_alone(freshness), alone && !authoritative, "{write} {read}");
            assert_eq!(
                plan.frontend_decides(freshness),
                local || (alone && !authoritative),
                "{write} {read}"
            );
        }
    }
}

#[test]
fn a_refused_precondition_shows_staleness_only_where_others_write_and_the_frontend_is_compared() {
    for (write, read) in POLICIES {
        for sharing in [Sharing::Exclusive, Sharing::Shared] {
            let shows = sharing == Sharing::Shared && read == ReadPolicy::FrontendFirst;
            assert_eq!(
                plan(write, read, sharing).refusal_shows_staleness(),
                shows,
                "{write} {read} {sharing:?}"
            );
        }
    }
}

#[test]
fn hits_over_a_shared_backend_are_at_most_a_minute_old_unless_said_otherwise() {
    let of = |max_stale: MaxStale, sharing: Sharing, sole: bool| {
        let mut declared = Declared::default();
        if sole {
            declared.sole_writer();
        }
        let settings = TieredSettings { max_stale, ..TieredSettings::default() };
        Plan::of(settings, declared, &front(), &back(sharing)).expect("a plan")
    };
    let second = Duration::from_secs(1);
    let rows = [
        (MaxStale::Auto, Sharing::Exclusive, false, None, Staleness::None),
        (MaxStale::Auto, Sharing::Shared, false, Some(MINUTE), Staleness::AtMost(MINUTE)),
        (MaxStale::Auto, Sharing::Shared, true, None, Staleness::None),
        (MaxStale::Unlimited, Sharing::Shared, false, None, Staleness::Unlimited),
        (MaxStale::AtMost(second), Sharing::Shared, false, Some(second), Staleness::AtMost(second)),
        (MaxStale::AtMost(second), Sharing::Exclusive, false, Some(second), Staleness::None),
    ];
    // Too long for a number of milliseconds is not the same as any age.
    let longest = of(MaxStale::AtMost(Duration::MAX), Sharing::Shared, false);
    assert_eq!(longest.max_stale_of_hits(), u64::MAX - 1);
    assert!(!longest.is_local() && longest.guarantees().max_stale == Staleness::AtMost(Duration::MAX));
    for (max_stale, sharing, sole, age, staleness) in rows {
        let plan = of(max_stale, sharing, sole);
        let millis = age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).expect("short"));
        assert_eq!(plan.guarantees().max_stale, staleness, "{max_stale:?} {sharing:?}");
        assert_eq!(plan.max_stale_of_hits(), millis);
        assert_eq!(plan.max_stale_millis(Freshness::Cached), millis);
        assert_eq!(plan.max_stale_millis(Freshness::Authoritative), 0);
        assert_eq!(plan.max_stale_millis(Freshness::MaxStale(Duration::from_millis(7))), 7);
        assert_eq!(
            plan.max_stale_millis(Freshness::MaxStale(Duration::from_hours(1))),
            millis.min(3_600_000)
        );
        assert_eq!(plan.writes_alone(), sharing == Sharing::Exclusive || sole);
        assert!(plan.claims_backend(), "it writes");
    }
}

#[test]
fn a_cache_of_a_backend_that_others_own_claims_it_only_where_it_never_compares_again() {
    for (max_stale, claims, staleness) in [
        (MaxStale::Unlimited, true, Staleness::None),
        (MaxStale::AtMost(MINUTE), false, Staleness::AtMost(MINUTE)),
    ] {
        let settings =
            TieredSettings { max_stale, ..settings(WritePolicy::FrontendOnly, ReadPolicy::FrontendFirst) };
        let plan =
            Plan::of(settings, Declared::default(), &front(), &back(Sharing::Exclusive)).expect("a plan");
        assert_eq!(plan.claims_backend(), claims, "{max_stale:?}");
        assert_eq!(plan.guarantees().max_stale, staleness, "{max_stale:?}");
    }
    let alone = plan(WritePolicy::FrontendOnly, ReadPolicy::FrontendOnly, Sharing::Shared);
    assert_eq!(alone.guarantees().max_stale, Staleness::Unlimited, "it never compares");
}

#[test]
fn notes_of_absence_and_stale_answers_are_as_old_as_the_settings_allow() {
    let of = |settings: TieredSettings| {
        Plan::of(settings, Declared::default(), &front(), &back(Sharing::Exclusive)).expect("a plan")
    };
    let plan = of(TieredSettings::default());
    assert_eq!((plan.max_age_of_absence(), plan.oldest_stale_answer()), (0, None));
    let soft = Some(Duration::from_millis(50));
    let of_stale = |serve_stale| {
        let settings = TieredSettings { serve_stale, soft_read_timeout: soft, ..TieredSettings::default() };
        let plan = of(settings);
        (plan.oldest_stale_answer(), plan.soft_read_timeout())
    };
    assert_eq!(of_stale(ServeStale::Never), (None, None));
    assert_eq!(of_stale(ServeStale::Unlimited), (Some(u64::MAX), soft));
    assert_eq!(of_stale(ServeStale::AtMost(MINUTE)), (Some(60_000), soft));
    let plan = of(TieredSettings { negative_ttl: Some(Duration::from_secs(5)), ..TieredSettings::default() });
    assert_eq!(plan.max_age_of_absence(), 5_000);
}

#[test]
fn a_flush_halts_at_a_parked_write_where_it_keeps_the_order_of_history() {
    for (on_park, atomic, halts, order) in [
        (OnPark::Auto, true, true, guarantee::FlushOrder::Prefix),
        (OnPark::Auto, false, false, guarantee::FlushOrder::PerKey),
        (OnPark::Halt, true, true, guarantee::FlushOrder::Prefix),
        (OnPark::Halt, false, true, guarantee::FlushOrder::PerKey),
        (OnPark::Skip, true, false, guarantee::FlushOrder::PerKey),
        (OnPark::Skip, false, false, guarantee::FlushOrder::PerKey),
    ] {
        let behind = settings(WritePolicy::WriteBehind, ReadPolicy::FrontendFirst);
        let settings = TieredSettings { on_park, ..behind };
        let exclusive = back(Sharing::Exclusive);
        let back = if atomic { exclusive } else { exclusive.without(Feature::AtomicBatch) };
        let plan = Plan::of(settings, declared(WritePolicy::WriteBehind), &front(), &back).expect("a plan");
        assert_eq!(plan.halts_when_parked(), halts, "{on_park:?} {atomic}");
        assert_eq!(plan.guarantees().flush_order, order, "{on_park:?} {atomic}");
        assert_eq!(plan.guarantees().atomic_batches, atomic);
    }
}

#[test]
fn the_record_of_the_lease_is_reserved_under_a_lease_alone() {
    let owner = Key::new(OWNER).expect("valid");
    let other = Key::new("users/42").expect("valid");
    let leased = plan(WritePolicy::WriteBehind, ReadPolicy::FrontendFirst, Sharing::Shared);
    assert_eq!(leased.lease(), Some(Lease::Acquire));
    assert_eq!((leased.reserves(&owner), leased.reserves(&other)), (true, false));
    let through = plan(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst, Sharing::Shared);
    assert_eq!((through.lease(), through.reserves(&owner)), (None, false));
}

#[test]
fn a_stack_promises_what_its_policies_and_tiers_can_keep() {
    for (write, read) in POLICIES {
        for sharing in [Sharing::Exclusive, Sharing::Shared] {
            let plan = plan(write, read, sharing);
            let (promised, local) = (plan.guarantees(), write == WritePolicy::FrontendOnly);
            let linearizable = read == ReadPolicy::FrontendFirst
                && !local
                && (sharing == Sharing::Exclusive || write == WritePolicy::WriteBehind);
            assert_eq!(promised.linearizable, linearizable, "{write} {read} {sharing:?}");
            assert!(promised.conditional_writes, "{write} {read}");
            assert_eq!(promised.atomic_batches, !local, "{write} {read}");
            let durability = if local { Durability::Volatile } else { Durability::PowerLoss };
            assert_eq!(promised.durability, durability, "{write} {read}");
            let strict = promised.require(guarantee::Requirement::Strict);
            assert_eq!(strict.is_ok(), linearizable, "{write} {read} {sharing:?}");
            assert_eq!(promised.require(guarantee::Requirement::Linearizable).is_ok(), linearizable);
            let survives = guarantee::Requirement::Survives(Durability::ProcessKill);
            assert_eq!(promised.require(survives).is_ok(), !local, "{write} {read}");
        }
    }
    let volatile = {
        let mut declared = Declared::default();
        declared.journal(Durability::Volatile);
        let behind = settings(WritePolicy::WriteBehind, ReadPolicy::FrontendFirst);
        Plan::of(behind, declared, &front(), &back(Sharing::Exclusive)).expect("a plan")
    };
    assert_eq!(volatile.guarantees().durability, Durability::Volatile, "what the journal survives");
    let refused = volatile.guarantees().require(guarantee::Requirement::Strict).expect_err("volatile");
    assert!(refused.message().contains("killed process"), "{refused}");
    let blind = back(Sharing::Exclusive).without(Feature::ConditionalPut);
    let through = settings(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
    let through = Plan::of(through, Declared::default(), &front(), &blind).expect("a plan");
    let refused = through.guarantees().require(guarantee::Requirement::Strict).expect_err("blind");
    assert!(refused.message().contains("conditional writes"), "{refused}");
}

#[test]
fn a_stack_declares_what_its_tiers_together_can_do() {
    let has = |write, read, missing_in_front: Option<Feature>, missing_in_back: Option<Feature>, feature| {
        let without = |tier: Capabilities, missing: Option<Feature>| match missing {
            Some(feature) => tier.without(feature),
            None => tier,
        };
        let (front, back) =
            (without(front(), missing_in_front), without(back(Sharing::Exclusive), missing_in_back));
        let plan = Plan::of(settings(write, read), declared(write), &front, &back).expect("a plan");
        plan.capabilities().has(feature)
    };
    for (write, read) in POLICIES {
        let (local, behind) = (write == WritePolicy::FrontendOnly, write == WritePolicy::WriteBehind);
        let lists_front = local || read == ReadPolicy::FrontendOnly;
        let what = format!("{write} {read}");
        for feature in [Feature::ConditionalPut, Feature::ConditionalDelete] {
            assert_eq!(has(write, read, None, Some(feature), feature), local || behind, "{what} {feature:?}");
        }
        for feature in [Feature::KeepsMarks, Feature::Changes] {
            assert_eq!(has(write, read, None, Some(feature), feature), local, "{what} {feature:?}");
            assert_eq!(has(write, read, Some(feature), None, feature), !local, "{what} {feature:?}");
        }
        for feature in [Feature::ListsMetadata, Feature::ListsExpiry] {
            assert_eq!(has(write, read, None, Some(feature), feature), lists_front, "{what} {feature:?}");
            assert_eq!(has(write, read, Some(feature), None, feature), !lists_front, "{what} {feature:?}");
        }
        let partial = Feature::PartialListings;
        assert_eq!(has(write, read, None, None, partial), lists_front, "{what}");
        assert_eq!(has(write, read, None, None, Feature::AtomicBatch), !local, "{what}");
        assert!(!has(write, read, None, Some(Feature::AtomicBatch), Feature::AtomicBatch), "{what}");
        assert_eq!(has(write, read, Some(Feature::Peeks), None, Feature::Peeks), behind, "{what}");
        assert!(has(write, read, None, None, Feature::Peeks), "{what}");
        assert!(!has(write, read, None, None, Feature::KeepsNotes), "{what}");
        for (missing, has_it) in [(None, true), (Some(Feature::UniqueValidators), false)] {
            assert_eq!(has(write, read, None, missing, Feature::UniqueValidators), has_it, "{what}");
        }
        let corruption = Feature::DetectsCorruption;
        assert!(has(write, read, Some(corruption), None, corruption), "{what}: volatile");
        assert!(!has(write, read, None, Some(corruption), corruption), "{what}");
    }
}

#[test]
fn a_backend_that_lasts_and_evicts_is_refused_unless_it_is_never_written() {
    for (write, read) in POLICIES {
        let backend = back(Sharing::Exclusive).with(Feature::Evicts);
        let built =
            |backend: &Capabilities| Plan::of(settings(write, read), declared(write), &front(), backend);
        if write == WritePolicy::FrontendOnly {
            built(&backend).expect("a cache of a cache");
            continue;
        }
        let error = built(&backend).expect_err("it loses what it is given");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("make it the frontend"), "{error}");
        for backend in [
            backend.clone().with_durability(Durability::Volatile),
            // A stack whose frontend evicts.
            backend.with(Feature::PartialListings),
        ] {
            built(&backend).expect("nothing is lost, or nothing was to be kept");
        }
    }
}

#[test]
fn a_stack_evicts_where_what_it_shows_may_vanish() {
    for (write, read) in POLICIES {
        let (local, alone) = (write == WritePolicy::FrontendOnly, read == ReadPolicy::FrontendOnly);
        let evicts = |front: Capabilities, back: Capabilities, shared: bool| {
            let mut declared = declared(write);
            if write == WritePolicy::WriteBehind && shared {
                declared.lease(Lease::Acquire);
            }
            let plan = Plan::of(settings(write, read), declared, &front, &back).expect("a plan");
            plan.capabilities().has(Feature::Evicts)
        };
        let what = format!("{write} {read}");
        let exclusive = back(Sharing::Exclusive);
        assert!(!evicts(front(), exclusive.clone(), false), "{what}");
        assert_eq!(evicts(front().with(Feature::Evicts), exclusive.clone(), false), local || alone, "{what}");
        let forgetful = exclusive.with(Feature::Evicts).with_durability(Durability::Volatile);
        assert_eq!(evicts(front(), forgetful, false), !local, "{what}");
        // The owner of a lease is the only writer, as far as it can tell.
        let never_had = alone && !local && write != WritePolicy::WriteBehind;
        assert_eq!(evicts(front(), back(Sharing::Shared), true), never_had, "{what}");
    }
}

#[test]
fn limits_are_those_of_the_tier_that_keeps_a_write() {
    let front =
        || front().with_max_key(100).with_max_value(1_000).with_request_lifetime(Duration::from_secs(1));
    let back = || {
        let back = back(Sharing::Shared).with_max_key(50).with_max_value(5_000);
        back.with_request_lifetime(Duration::from_secs(9))
    };
    for (write, read) in POLICIES {
        let mut declared = declared(write);
        if write == WritePolicy::WriteBehind {
            declared.lease(Lease::Acquire);
        }
        let plan = Plan::of(settings(write, read), declared, &front(), &back()).expect("a plan");
        let (stack, local) = (plan.capabilities(), write == WritePolicy::FrontendOnly);
        let expected = if local {
            (50, 1_000, Duration::from_secs(1), Sharing::Exclusive)
        } else {
            (50, 5_000, Duration::from_secs(9), Sharing::Shared)
        };
        let limits = (stack.max_key(), stack.max_value(), stack.request_lifetime(), stack.sharing());
        assert_eq!(limits, expected, "{write} {read}");
        let shown = if local || read == ReadPolicy::FrontendOnly {
            Durability::Volatile
        } else {
            Durability::PowerLoss
        };
        assert_eq!(stack.durability(), shown, "{write} {read}");
        assert_eq!(stack.name(), "front/back");
    }
}

#[test]
fn a_frontend_keeps_metadata_and_notes_and_belongs_to_one_store() {
    for missing in [Feature::KeepsMetadata, Feature::KeepsNotes] {
        let front = front().without(missing);
        let error =
            Plan::of(TieredSettings::default(), Declared::default(), &front, &back(Sharing::Exclusive));
        assert!(error.expect_err("refused").message().contains("nest stacks to the right"), "{missing:?}");
    }
    let shared = front().with_sharing(Sharing::Shared);
    let of = |declared| Plan::of(TieredSettings::default(), declared, &shared, &back(Sharing::Exclusive));
    let error = of(Declared::default()).expect_err("refused");
    assert!(error.message().contains("declare_private_frontend"), "{error}");
    let mut private = Declared::default();
    private.private_frontend();
    of(private).expect("declared");
}

#[test]
fn journals_and_leases_are_for_write_behind_alone_which_needs_a_journal_and_no_other_writer() {
    let (exclusive, shared) = (back(Sharing::Exclusive), back(Sharing::Shared));
    let behind = || settings(WritePolicy::WriteBehind, ReadPolicy::FrontendFirst);
    let with = |lease: bool, sole: bool| {
        let mut declared = declared(WritePolicy::WriteBehind);
        if lease {
            declared.lease(Lease::TakeOver);
        }
        if sole {
            declared.sole_writer();
        }
        declared
    };
    for write in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::FrontendOnly] {
        let other = || settings(write, ReadPolicy::FrontendFirst);
        assert!(
            refusal(other(), with(false, false), &exclusive).contains("does not use a journal"),
            "{write}"
        );
        let mut lease = Declared::default();
        lease.lease(Lease::Acquire);
        assert!(refusal(other(), lease, &exclusive).contains("does not use a lease"), "{write}");
    }
    assert!(refusal(behind(), Declared::default(), &exclusive).contains("needs a journal"));
    assert!(refusal(behind(), with(false, false), &shared).contains("only writer"));
    for declared in [with(true, false), with(false, true)] {
        Plan::of(behind(), declared, &front(), &shared).expect("the only writer");
    }
    assert!(refusal(behind(), with(true, true), &shared).contains("does not need a lease"));
    for missing in [Feature::AtomicBatch, Feature::ConditionalPut] {
        let back = back(Sharing::Shared).without(missing);
        assert!(refusal(behind(), with(true, false), &back).contains("a lease needs"), "{missing:?}");
        Plan::of(behind(), with(false, true), &front(), &back).expect("no lease");
    }
    for settings in [
        TieredSettings { max_pending_operations: 0, ..behind() },
        TieredSettings { max_pending_bytes: 0, ..behind() },
    ] {
        assert!(refusal(settings, with(false, false), &exclusive).contains("at least 1"));
    }
    let overdue = TieredSettings { on_overdue: OnOverdue::Block, max_pending_age: None, ..behind() };
    assert!(refusal(overdue.clone(), with(false, false), &exclusive).contains("set max-pending-age"));
    let aged = TieredSettings { max_pending_age: Some(MINUTE), ..overdue };
    Plan::of(aged, with(false, false), &front(), &exclusive).expect("an age");
}

#[test]
fn retrying_until_known_needs_conditional_writes_and_a_synchronous_policy() {
    let retry =
        |write| TieredSettings { on_unknown: OnUnknown::Retry, ..settings(write, ReadPolicy::FrontendFirst) };
    for write in [WritePolicy::WriteThrough, WritePolicy::WriteAround] {
        let plan =
            Plan::of(retry(write), Declared::default(), &front(), &back(Sharing::Shared)).expect("a plan");
        assert_eq!(plan.route(), WriteRoute::Through(OnUnknown::Retry));
        for missing in [Feature::ConditionalPut, Feature::ConditionalDelete] {
            let back = back(Sharing::Shared).without(missing);
            assert!(
                refusal(retry(write), Declared::default(), &back).contains("conditional puts and deletes")
            );
        }
    }
    for write in [WritePolicy::WriteBehind, WritePolicy::FrontendOnly] {
        let message = refusal(retry(write), declared(write), &back(Sharing::Exclusive));
        assert!(message.contains("does not use on-unknown"), "{message}");
    }
}

#[test]
fn settings_that_can_never_work_are_refused() {
    let exclusive = back(Sharing::Exclusive);
    let refused = |settings: TieredSettings| refusal(settings, Declared::default(), &exclusive);
    let zero = Some(Duration::ZERO);
    let base = TieredSettings::default;
    for (settings, name) in [
        (TieredSettings { max_pending_age: zero, ..base() }, "max-pending-age"),
        (TieredSettings { write_deadline: zero, ..base() }, "write-deadline"),
        (TieredSettings { read_timeout: zero, ..base() }, "read-timeout"),
        (TieredSettings { negative_ttl: zero, ..base() }, "negative-ttl"),
        (TieredSettings { default_ttl: Duration::ZERO.into(), ..base() }, "default-ttl"),
        (
            TieredSettings { prefix_ttl: [("a/".to_owned(), Duration::ZERO.into())].into(), ..base() },
            "prefix-ttl",
        ),
        (TieredSettings { frontend_patience: Duration::ZERO, ..base() }, "frontend-patience"),
    ] {
        assert!(refused(settings).starts_with(name), "{name}");
    }
    for breaker in [BreakerSettings::new(0, MINUTE), BreakerSettings::new(1, Duration::ZERO)] {
        for settings in [
            TieredSettings { backend_breaker: Some(breaker), ..base() },
            TieredSettings { frontend_breaker: Some(breaker), ..base() },
        ] {
            assert!(refused(settings).contains("breaker"), "{breaker:?}");
        }
    }
    let breaker = Some(BreakerSettings::new(1, MINUTE));
    let local = settings(WritePolicy::FrontendOnly, ReadPolicy::FrontendFirst);
    assert!(
        refused(TieredSettings { frontend_breaker: breaker, ..local.clone() }).contains("frontend-breaker")
    );
    let plan = TieredSettings { backend_breaker: breaker, ..local };
    Plan::of(plan, Declared::default(), &front(), &exclusive).expect("of the backend");
    let plan = TieredSettings { frontend_breaker: breaker, ..base() };
    Plan::of(plan, Declared::default(), &front(), &exclusive).expect("it can do without its frontend");
    assert!(
        refused(settings(WritePolicy::WriteAround, ReadPolicy::FrontendOnly)).contains("never sees a write")
    );
}

#[test]
fn a_frontend_is_trusted_only_where_no_other_process_writes() {
    let trust = || TieredSettings { reopen: Reopen::Trust, ..TieredSettings::default() };
    assert!(refusal(trust(), Declared::default(), &back(Sharing::Shared)).contains("reopen = trust"));
    Plan::of(trust(), Declared::default(), &front(), &back(Sharing::Exclusive)).expect("exclusive");
    let mut sole = Declared::default();
    sole.sole_writer();
    Plan::of(trust(), sole, &front(), &back(Sharing::Shared)).expect("declared");
    let clear = TieredSettings { reopen: Reopen::Clear, ..TieredSettings::default() };
    Plan::of(clear, Declared::default(), &front(), &back(Sharing::Shared)).expect("nothing is trusted");
}

#[test]
fn what_is_put_without_an_expiry_expires_as_the_longest_prefix_or_else_the_default_says() {
    let hour = Duration::from_hours(1);
    let settings = TieredSettings {
        default_ttl: hour.into(),
        prefix_ttl: [("a/".to_owned(), MINUTE.into()), ("a/forever/".to_owned(), DefaultTtl::Never)].into(),
        ..settings(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst)
    };
    let plan = Plan::of(settings, Declared::default(), &front(), &back(Sharing::Shared)).expect("a plan");
    let expiry = |key: &str| plan.default_expiry(&Key::new(key).expect("valid"));
    assert_eq!(expiry("b"), Expiry::After(hour));
    assert_eq!(expiry("a/1"), Expiry::After(MINUTE));
    assert_eq!(expiry("a/forever/1"), Expiry::Never);
}

#[test]
fn a_stack_meets_a_requirement_that_it_just_meets() {
    use Durability::{CleanClose, PowerLoss, ProcessKill};

    let lasting = |durability| back(Sharing::Exclusive).with_durability(durability);
    let of = |durability| {
        let settings = settings(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
        let plan = Plan::of(settings, Declared::default(), &front(), &lasting(durability)).expect("a plan");
        plan.guarantees().clone()
    };
    for (has, strict, survives_kill) in
        [(CleanClose, false, false), (ProcessKill, true, true), (PowerLoss, true, true)]
    {
        let guarantees = of(has);
        assert_eq!(guarantees.require(Requirement::Strict).is_ok(), strict, "{has:?}");
        let survives = guarantees.require(Requirement::Survives(ProcessKill)).is_ok();
        assert_eq!(survives, survives_kill, "{has:?}");
        assert!(guarantees.require(Requirement::Survives(has)).is_ok(), "{has:?}");
    }
}

#[test]
fn a_stack_says_which_journals_it_sees() {
    let settings = settings(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
    let plan = Plan::of(settings, Declared::default(), &front(), &back(Sharing::Exclusive)).expect("a plan");
    let mut guarantees = plan.guarantees().clone();
    assert_eq!(guarantees.journals, JournalsSeen::All);
    guarantees.see(JournalsSeen::NotAll);
    assert_eq!(guarantees.journals, JournalsSeen::NotAll);
}
