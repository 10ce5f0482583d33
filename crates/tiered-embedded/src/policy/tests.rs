//! The order in which entries leave, and what it is worth.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn key(number: u64) -> Key {
    Key::new(format!("k{number}")).expect("valid")
}

/// Checks every link against the sums.
fn check(policy: &Policy) {
    let mut found = 0;
    for queue in [policy.small, policy.main] {
        let (mut at, mut before, mut bytes) = (queue.oldest, NONE, 0);
        while at != NONE {
            let slot = policy.slot(at);
            assert_eq!(slot.older, before);
            assert_eq!(policy.find(policy.hash(&slot.key), &slot.key), Some(at));
            (before, at) = (at, slot.newer);
            bytes += slot.bytes;
            found += 1;
        }
        assert_eq!((queue.newest, queue.bytes), (before, bytes));
    }
    assert_eq!(found, policy.len());
}

fn evicted(policy: &mut Policy) -> String {
    policy.evict(NOW).expect("not empty").key.as_str().to_owned()
}

#[test]
fn a_slot_is_small() {
    assert_eq!(size_of::<Slot>(), 56);
}

#[test]
fn what_was_never_used_leaves_in_the_order_it_came() {
    let mut policy = Policy::new(1);
    (0..5).for_each(|number| policy.insert(&key(number), 10, None));
    let order: Vec<_> = (0..5).map(|_| evicted(&mut policy)).collect();
    assert_eq!(order, ["k0", "k1", "k2", "k3", "k4"]);
    assert_eq!((policy.evict(NOW), policy.bytes(), policy.len()), (None, 0, 0));
}

#[test]
fn what_was_used_stays_and_has_to_be_used_again() {
    let mut policy = Policy::new(1);
    (0..4).for_each(|number| policy.insert(&key(number), 10, None));
    policy.touch(&key(0));
    assert_eq!(evicted(&mut policy), "k1");
    assert_eq!(evicted(&mut policy), "k2");
    check(&policy);
    policy.insert(&key(5), 10, None);
    assert_eq!(evicted(&mut policy), "k3", "the small part has more than its tenth");
    assert_eq!(evicted(&mut policy), "k5");
    assert_eq!(evicted(&mut policy), "k0");
}

#[test]
fn what_comes_back_soon_is_not_pushed_out_by_what_is_new() {
    let mut policy = Policy::new(1);
    (0..10).for_each(|number| policy.insert(&key(number), 10, None));
    assert_eq!(evicted(&mut policy), "k0");
    policy.insert(&key(0), 10, None);
    (100..200).for_each(|number| {
        policy.insert(&key(number), 10, None);
        assert_ne!(evicted(&mut policy), "k0");
    });
}

#[test]
fn what_has_expired_leaves_first_and_an_overwritten_time_is_forgotten() {
    let mut policy = Policy::new(1);
    let at = |millis| Some(Timestamp::from_millis(millis));
    policy.insert(&key(0), 10, None);
    policy.insert(&key(1), 10, at(900));
    policy.insert(&key(2), 10, at(1_000));
    policy.insert(&key(3), 10, at(1_001));
    policy.insert(&key(4), 10, at(800));
    policy.insert(&key(4), 12, None);
    (0..3).for_each(|_| policy.touch(&key(1)));
    let first = policy.evict(NOW).expect("expired");
    assert_eq!(first, Victim { key: key(1), bytes: 10, expired: true });
    assert_eq!(policy.evict(NOW).map(|victim| (victim.key, victim.expired)), Some((key(2), true)));
    assert_eq!(policy.evict(NOW).map(|victim| (victim.key, victim.expired)), Some((key(0), false)));
    assert_eq!(policy.bytes(), 22);
    check(&policy);
}

#[test]
fn an_eviction_ends_also_where_everything_is_used() {
    let mut policy = Policy::new(1);
    for number in 0..10_000 {
        policy.insert(&key(number), 10, None);
        (0..4).for_each(|_| policy.touch(&key(number)));
    }
    let before: Vec<u8> = policy.slots.iter().map(|slot| slot.uses.load(Ordering::Relaxed)).collect();
    policy.evict(NOW).expect("one leaves");
    let changed =
        policy.slots.iter().zip(before).filter(|(slot, before)| slot.uses.load(Ordering::Relaxed) != *before);
    assert!(changed.count() <= TURNS);
}

#[test]
fn sums_and_links_agree_after_any_calls() {
    let (mut policy, mut model) = (Policy::new(1), BTreeMap::new());
    let mut random = Random(1);
    for step in 0..40_000_u64 {
        let key = key(random.below(if step < 20_000 { 3_000 } else { 40 }));
        match random.below(10) {
            0..5 => {
                let bytes = random.below(1_000);
                let expires =
                    (random.below(3) == 0).then(|| Timestamp::from_millis(500 + random.below(1_000)));
                policy.insert(&key, bytes, expires);
                model.insert(key, (bytes, expires));
            }
            5 => {
                policy.remove(&key);
                model.remove(&key);
            }
            6 => {
                policy.restore(&key, 7, None);
                model.entry(key).or_insert((7, None));
            }
            7..9 => policy.touch(&key),
            _ => {
                let has_expired = |expires: Option<Timestamp>| expires.is_some_and(|at| NOW >= at);
                let expected = model.values().any(|(_, expires)| has_expired(*expires));
                if let Some(victim) = policy.evict(NOW) {
                    let (bytes, expires) = model.remove(&victim.key).expect("it was there");
                    assert_eq!((victim.bytes, victim.expired), (bytes, has_expired(expires)));
                    assert_eq!(victim.expired, expected);
                }
            }
        }
        let bytes: u64 =
            if step % 100 == 0 { model.values().map(|(bytes, _)| bytes).sum() } else { continue };
        assert_eq!((policy.bytes(), policy.len()), (bytes, model.len()));
        check(&policy);
    }
}

/// Numbers that look random: splitmix.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Keys by their rank, more or less as often as Zipf says.
fn zipf(random: &mut Random, weights: &[f64]) -> u64 {
    let total = weights.last().copied().unwrap_or_default();
    let at = f64::from(u32::try_from(random.below(1 << 32)).expect("below")) / f64::from(u32::MAX) * total;
    weights.partition_point(|weight| *weight < at) as u64
}

fn weights(keys: u32, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    (1..=keys)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect()
}

/// Hits in a hundred of a cache of so many entries, by this policy and by first in, first out. The first part is not counted.
fn hit_ratios(trace: &[u64], entries: usize) -> (f64, f64) {
    let keys: HashMap<u64, Key> = trace.iter().map(|number| (*number, key(*number))).collect();
    let (mut policy, mut held) = (Policy::new(1), HashSet::new());
    let (mut queue, mut fifo) = (VecDeque::new(), HashSet::new());
    let (mut hits, mut fifo_hits, mut counted) = (0_u32, 0_u32, 0_u32);
    for (step, number) in trace.iter().enumerate() {
        let (name, counts) = (&keys[number], step > trace.len() / 4);
        counted += u32::from(counts);
        if held.contains(name) {
            policy.touch(name);
            hits += u32::from(counts);
        } else {
            policy.insert(name, 1, None);
            held.insert(name.clone());
            while policy.len() > entries {
                held.remove(&policy.evict(NOW).expect("not empty").key);
            }
        }
        if fifo.contains(number) {
            fifo_hits += u32::from(counts);
        } else {
            fifo.insert(*number);
            queue.push_back(*number);
            if queue.len() > entries {
                fifo.remove(&queue.pop_front().expect("not empty"));
            }
        }
    }
    let percent = |hits: u32| 100.0 * f64::from(hits) / f64::from(counted);
    (percent(hits), percent(fifo_hits))
}

#[test]
fn it_hits_more_often_than_first_in_first_out() {
    let weights = weights(20_000, 0.9);
    let mut random = Random(7);
    let skewed: Vec<u64> = (0..200_000).map(|_| zipf(&mut random, &weights)).collect();
    // 57.3 and 43.1 %.
    let (ours, fifo) = hit_ratios(&skewed, 1_000);
    assert!(ours > fifo + 12.0, "{ours} {fifo}");
    // Every fourth access is one of a scan, which reads each key once.
    let mut scanned = 1_000_000;
    let scanning: Vec<u64> = skewed
        .iter()
        .enumerate()
        .map(|(step, number)| {
            scanned += u64::from(step % 4 == 0);
            if step % 4 == 0 { scanned } else { *number }
        })
        .collect();
    // 43.1 and 28.4 %.
    let (ours, fifo) = hit_ratios(&scanning, 1_000);
    assert!(ours > fifo + 12.0, "{ours} {fifo}");
    // A scan of twenty times what is held, now and then.
    let mut bursts = Vec::new();
    for part in skewed.chunks(20_000) {
        bursts.extend_from_slice(part);
        bursts.extend((0..20_000).map(|_| {
            scanned += 1;
            scanned
        }));
    }
    // 26.8 and 19.9 %.
    let (ours, fifo) = hit_ratios(&bursts, 1_000);
    assert!(ours > fifo + 5.0, "{ours} {fifo}");
}
