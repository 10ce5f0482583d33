//! Settings as text: what is written is read back, and what cannot be meant is refused with a hint.

use std::time::Duration;

use proptest::prelude::*;
use tiered_core::settings::{BreakerSettings, MaxStale, ServeStale};
use tiered_core::{
    ErrorKind, MemoryStore, Stats, Store as _, StoreExt as _, TieredBuilder, TieredSettings, TieredStore,
    VolatileJournal, WritePolicy,
};

fn builder() -> TieredBuilder {
    TieredStore::builder(MemoryStore::new(), MemoryStore::new())
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..100_000_u64).prop_map(Duration::from_millis),
        any::<(u64, u32)>().prop_map(|(seconds, nanos)| Duration::new(seconds, nanos % 1_000_000_000)),
    ]
}

fn limits() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of(durations())
}

prop_compose! {
    fn any_settings()(
        ages in (durations(), durations(), 0..3_u8, 0..3_u8),
        limits in (limits(), limits(), limits(), limits(), limits()),
        waits in (durations(), durations()),
        sizes in (proptest::option::of(any::<u64>()), any::<u64>(), 0..48_u32),
        breaker in proptest::option::of((any::<u32>(), durations())),
    ) -> TieredSettings {
        let mut settings = TieredSettings::default();
        settings.max_stale = match ages.2 {
            0 => MaxStale::Auto,
            1 => MaxStale::Unlimited,
            _ => MaxStale::AtMost(ages.0),
        };
        settings.serve_stale = match ages.3 {
            0 => ServeStale::Never,
            1 => ServeStale::Unlimited,
            _ => ServeStale::AtMost(ages.1),
        };
        (settings.max_pending_age, settings.write_deadline, settings.negative_ttl) = (limits.0, limits.1, limits.2);
        (settings.soft_read_timeout, settings.read_timeout) = (limits.3, limits.4);
        (settings.frontend_patience, settings.close_deadline) = waits;
        (settings.max_fill, settings.max_pending_bytes) = (sizes.0, sizes.1 >> sizes.2 << sizes.2);
        settings.backend_breaker = breaker.map(|(failures, pause)| BreakerSettings::new(failures, pause));
        settings
    }
}

proptest! {
    #[test]
    fn all_settings_are_read_back(settings in any_settings()) {
        let toml = toml::to_string(&settings).expect("settings are plain data");
        prop_assert_eq!(&toml::from_str::<TieredSettings>(&toml).expect("its own text"), &settings, "{}", toml);
        let json = serde_json::to_string(&settings).expect("settings are plain data");
        prop_assert_eq!(&serde_json::from_str::<TieredSettings>(&json).expect("its own text"), &settings, "{}", json);
    }
}

#[test]
fn a_file_says_durations_and_sizes_with_their_units() {
    let text = r#"
        max-stale = "60s"
        serve-stale = "10m"
        max-fill = "8MiB"
        max-pending-bytes = 4096
        max-pending-age = "off"
        close-deadline = "1m 30s"
        read-timeout = "2.5s"
        backend-breaker = { failures = 3, pause = "500ms" }
    "#;
    let settings: TieredSettings = toml::from_str(text).expect("reads");
    let mut expected = TieredSettings::default();
    expected.max_stale = Duration::from_mins(1).into();
    expected.serve_stale = Duration::from_mins(10).into();
    expected.max_fill = Some(8 << 20);
    expected.max_pending_bytes = 4096;
    expected.max_pending_age = None;
    expected.close_deadline = Duration::from_secs(90);
    expected.read_timeout = Some(Duration::from_millis(2_500));
    expected.backend_breaker = Some(BreakerSettings::new(3, Duration::from_millis(500)));
    assert_eq!(settings, expected);
    let written = toml::to_string(&settings).expect("writes");
    for line in [
        r#"max-stale = "1m""#,
        r#"max-fill = "8MiB""#,
        r#"max-pending-bytes = "4KiB""#,
        r#"max-pending-age = "off""#,
        r#"close-deadline = "1m 30s""#,
        r#"write-deadline = "off""#,
    ] {
        assert!(written.lines().any(|written| written == line), "{line} in {written}");
    }
}

#[test]
fn what_has_no_unit_is_refused_with_an_example() {
    let hint = r#"expected a duration with its unit, such as "500ms", "60s" or "1h 30m""#;
    for (text, hint) in [
        ("close-deadline = 30", hint),
        ("close-deadline = '30'", hint),
        ("close-deadline = -1", hint),
        ("close-deadline = 1.5", hint),
        ("close-deadline = 'soon'", hint),
        ("read-timeout = 30", r#"such as "500ms", "60s" or "1h 30m", or "off""#),
        ("max-stale = 60", r#"expected "auto", "unlimited", or a duration with its unit"#),
        ("serve-stale = { millis = 5 }", r#"expected "never", "unlimited", or a duration"#),
        ("backend-breaker = { failures = 3, pause = 1000 }", hint),
        ("max-pending-bytes = '64 stones'", r#"expected a number of bytes, such as 4096 or "64MiB""#),
        ("max-pending-bytes = -1", "expected a number of bytes"),
        ("max-fill = 1.5", "expected a number of bytes"),
        // Names of an earlier version.
        ("close-deadline-millis = 30000", "unknown field `close-deadline-millis`"),
        ("backend-breaker = { failures = 3, pause-millis = 1000 }", "unknown field `pause-millis`"),
    ] {
        let error = toml::from_str::<TieredSettings>(text).expect_err(text);
        assert!(error.message().contains(hint), "{text}: {}", error.message());
    }
}

#[test]
fn statistics_say_durations_with_their_units() {
    let mut stats = Stats::default();
    stats.oldest_pending = Duration::from_secs(90);
    let text = serde_json::to_string(&stats).expect("writes");
    assert!(text.contains(r#""oldest_pending":"1m 30s""#), "{text}");
    assert_eq!(serde_json::from_str::<Stats>(&text).expect("reads"), stats);
}

#[tokio::test]
async fn a_time_of_zero_is_refused_where_nothing_can_be_done_in_it() {
    let zero = Duration::ZERO;
    for (name, builder) in [
        ("frontend-patience", builder().frontend_patience(zero)),
        ("max-pending-age", builder().max_pending_age(zero)),
        ("write-deadline", builder().write_deadline(zero)),
        ("read-timeout", builder().read_timeout(zero)),
        ("negative-ttl", builder().negative_ttl(zero)),
        ("pause", builder().backend_breaker(1, zero)),
    ] {
        let error = builder.build().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        assert!(error.message().contains(name) && error.message().contains("longer than 0s"), "{error}");
    }
    let allowed = builder().max_stale(zero).serve_stale(zero).soft_read_timeout(zero).close_deadline(zero);
    let store = allowed.build().await.expect("each says something");
    store.set("k", "v").await.expect("written");
    assert_eq!(store.get("k").await.expect("reads").expect("there").value(), "v");
    store.close().await.expect("nothing is pending");
}

#[tokio::test]
async fn the_longest_times_are_as_good_as_none() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteBehind] {
        let builder = builder()
            .write_policy(policy)
            .max_stale(Duration::MAX)
            .serve_stale(Duration::MAX)
            .max_pending_age(Duration::MAX)
            .frontend_patience(Duration::MAX)
            .write_deadline(Duration::MAX)
            .close_deadline(Duration::MAX)
            .negative_ttl(Duration::MAX)
            .soft_read_timeout(Duration::MAX)
            .read_timeout(Duration::MAX)
            .backend_breaker(1, Duration::MAX)
            .frontend_breaker(1, Duration::MAX);
        let builder = match policy {
            WritePolicy::WriteBehind => builder.journal(VolatileJournal::new()),
            _ => builder,
        };
        let store = builder.build().await.expect("builds");
        assert!(store.get("k").await.expect("reads").is_none());
        store.set("k", "v").await.expect("written");
        assert_eq!(store.get("k").await.expect("reads").expect("there").value(), "v");
        store.close().await.expect("closes");
    }
}
