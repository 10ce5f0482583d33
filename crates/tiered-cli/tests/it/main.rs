//! The real command: what it prints, and how it ends.
#![cfg(all(feature = "moka", feature = "redb", feature = "wrap"))]

mod damage;
mod files;
mod gc;
#[cfg(feature = "git")]
mod git;
mod help;
mod journals;
mod lifecycle;
mod pipes;
mod place;
mod replay;
mod schemes;
mod sync;
mod walk;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use place::{Place, damage};

#[test]
fn values_are_written_and_read_byte_for_byte() {
    let place = Place::new();
    let store = place.url("d.redb");
    let value: Vec<u8> = (0..=255).chain([b'\n', 0, b'\r']).collect();
    place.put(&store, "k", &value);
    assert_eq!(place.run(&["--store", &store, "get", "k"]).ends(0).0.stdout, value);
    let out = place.path("out");
    place.run(&["--store", &store, "get", "k", "-o", out.to_str().expect("utf-8")]).ends(0);
    assert_eq!(fs::read(&out).expect("reads"), value);
    place.run(&["--store", &store, "put", "from-file", out.to_str().expect("utf-8")]).ends(0);
    assert_eq!(place.run(&["--store", &store, "get", "from-file"]).ends(0).0.stdout, value);
    let head = place.run(&["--store", &store, "--json", "head", "k"]).ends(0).text();
    for field in
        ["\"key\":\"k\"", "\"size\":259", "\"expires_at\":null", "\"attributes\":{}", "\"tier\":\"store\""]
    {
        assert!(head.contains(field), "{field} is not in {head}");
    }
    place.run(&["--store", &store, "delete", "k"]).ends(0);
    place.run(&["--store", &store, "delete", "k"]).ends(1);
    place.run(&["--store", &store, "get", "k"]).ends(1);
    place.run(&["--store", &store, "head", "k"]).ends(1);
}

#[test]
fn get_reports_which_tier_answered() {
    let place = Place::new();
    let (front, back) = (place.url("front.redb"), place.url("back.redb"));
    place.put(&back, "k", b"v");
    let stack = ["--frontend", &front, "--backend", &back, "--json"];
    let get = |tier: &str| {
        let text = place.run(&[&stack[..], &["get", "k"]].concat()).ends(0).text();
        assert!(text.contains(&format!("\"tier\":\"{tier}\"")), "{text}");
    };
    get("backend");
    // The fill that the first read began was finished before the command ended; on reopening it is compared once.
    place.run(&["--store", &front, "get", "k"]).ends(0);
    get("backend");
    for policy in ["write-through", "write-around", "write-behind"] {
        let mut arguments = vec!["--frontend", &front, "--backend", &back, "--write-policy", policy];
        if policy == "write-behind" {
            arguments.extend(["--journal", "volatile:"]);
        }
        arguments.extend(["put", policy]);
        place.run_with(&arguments, b"v").ends(0);
        place.run(&["--store", &back, "get", policy]).ends(0);
    }
    let local = ["--frontend", &front, "--backend", &back, "--write-policy", "frontend-only", "put", "local"];
    place.run_with(&local, b"v").ends(0);
    place.run(&["--store", &back, "get", "local"]).ends(1);
    let behind = ["--frontend", &front, "--backend", &back, "--write-policy", "write-behind", "put", "x"];
    place.run_with(&behind, b"v").ends(2).says("journal");
    let other = place.url("other.redb");
    place.put(&other, "k", b"v");
    place.run(&["--frontend", &front, "--backend", &other, "get", "k"]).ends(2).says("another backend");
}

#[test]
fn the_exit_code_of_delete_tells_whether_the_key_existed() {
    let place = Place::new();
    let back = place.url("back.redb");
    place.put(&back, "seed", b"v");
    for policy in ["write-through", "write-around", "write-behind", "frontend-only"] {
        // What is deleted under frontend-only is a local copy, which needs a frontend that outlives the process.
        let front = place.url(&format!("{policy}.redb"));
        let mut stack = vec!["--frontend", &front, "--backend", &back, "--write-policy", policy];
        if policy == "write-behind" {
            stack.extend(["--journal", "journal"]);
        }
        let run = |rest: &[&str]| place.run_with(&[&stack[..], rest].concat(), b"v");
        run(&["delete", "k"]).ends(1).says("k is absent");
        run(&["put", "k"]).ends(0);
        run(&["delete", "k"]).ends(0);
        run(&["delete", "k"]).ends(1);
    }
}

#[test]
fn listings_are_ordered_and_limited() {
    let place = Place::new();
    let store = place.url("d.redb");
    for key in ["b", "a/2", "a/1", "c"] {
        place.put(&store, key, b"v");
    }
    let list = |more: &[&str]| place.run(&[&["--store", &store, "list"], more].concat()).ends(0).text();
    assert_eq!(list(&[]), "a/1\na/2\nb\nc\n");
    assert_eq!(list(&["a/"]), "a/1\na/2\n");
    assert_eq!(list(&["--start-after", "a/1", "--limit", "2"]), "a/2\nb\n");
    place.run_with(&["--store", &store, "put", "--", "-x"], b"v").ends(0);
    assert_eq!(list(&["--limit", "1"]), "-x\n");
    assert_eq!(list(&["--start-after", "-x", "--limit", "1"]), "a/1\n");
    place.run(&["--store", &store, "delete", "--", "-x"]).ends(0);
    let json = place.run(&["--store", &store, "--json", "list", "--limit", "1"]).ends(0).text();
    assert!(json.starts_with("{\"key\":\"a/1\",\"size\":1,\"version\":\""), "{json}");
}

#[test]
fn sync_copies_and_check_finds_no_difference() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for key in ["a", "b"] {
        place.put(&from, key, key.as_bytes());
    }
    let sync = |more: &[&str]| {
        place.run(&[&["sync", "--from", &from, "--to", &to, "--json", "--strategy"], more].concat())
    };
    let counts = sync(&["full-sync", "--dry-run"]).ends(0).text();
    assert!(counts.contains("\"listed_from\":2,\"listed_to\":0,\"copied\":2"), "{counts}");
    assert!(!place.path("to.redb").exists(), "a dry run creates nothing");
    sync(&["populate-missing"]).ends(0);
    place.run(&["check", "--from", &from, "--to", &to]).ends(0);
    place.put(&from, "a", b"other");
    place.put(&from, "new", b"v");
    place.put(&to, "extra", b"v");
    let check = ["check", "--from", &from, "--to", &to, "--json"];
    let found = place.run(&check).ends(6).text();
    let expected = "{\"key\":\"a\",\"kind\":\"differs\"}\n{\"key\":\"extra\",\"kind\":\"extra\"}\n{\"key\":\"new\",\"kind\":\"missing\"}\n";
    assert_eq!(found, expected);
    sync(&["refresh"]).ends(0);
    assert_eq!(place.run(&check).ends(6).text(), "{\"key\":\"extra\",\"kind\":\"extra\"}\n");
    let removed = sync(&["full-sync"]).ends(0).text();
    assert!(removed.contains("\"removed\":1"), "{removed}");
    place.run(&["check", "--from", &from, "--to", &to, "--values"]).ends(0);
    place.run(&["sync", "--from", &from, "--to", &from, "--strategy", "refresh"]).ends(2).says("two stores");
}

#[test]
fn invalid_input_is_named_in_the_error() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", b"v");
    fs::write(place.path("text"), "no database, and longer than the header of one").expect("written");
    fs::write(place.path("empty"), "").expect("written");
    let get = |url: &str| place.run(&["--store", url, "get", "k"]);
    get("redbb:d.redb").ends(2).says("unknown scheme");
    get(&format!("{store}?cashe=1MiB")).ends(2).says("no parameter cashe");
    get(&format!("{store}?cache=1MiB&cache=2MiB")).ends(2).says("twice");
    get(&format!("{store}?durability=maybe")).ends(2).says("sync, buffer");
    get(&format!("{store}?reads=maybe")).ends(2).says("adaptive, inline, threads");
    get(&format!("{store}?reads=inline")).ends(0);
    get("moka:?capacity=0").ends(2).says("capacity is 0");
    get("moka:?capacity=lots").ends(2).says("64MiB");
    get(&place.url("absent.redb")).ends(4).says("absent.redb");
    get(&place.url("text")).ends(2).says("not touched");
    get(&place.url("empty")).ends(2).says("empty");
    get(&place.url("")).ends(2);
    place.run(&["--store", &store, "get", "bad\nkey"]).ends(2).says("control character");
    place.run(&["--store", &store, "get", ""]).ends(2).says("empty");
    place.run(&["get", "k"]).ends(2).says("--store");
    place.run(&["--store", &store, "frobnicate"]).ends(2);
    place.run(&["--store", &place.url("text/below"), "put", "k"]).ends(4);
    let small = format!("{store}?max_value=4");
    place.run_with(&["--store", &small, "put", "k"], b"12345").ends(2).says("5 bytes");
    assert_eq!(get(&store).ends(0).text(), "v", "nothing is lost");
    let policy = ["--frontend", "moka:", "--backend", &store, "--write-policy", "write-back", "get", "k"];
    place.run(&policy).ends(2).says("write-through");
    place.run(&["sync", "--from", &store, "--to", "memory:", "--strategy", "all"]).ends(2).says("full-sync");
    place.run_with(&["--store", &place.url("empty"), "put", "k"], b"v").ends(0);
}

#[test]
fn a_locked_and_a_damaged_database_have_their_exit_codes() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", &vec![7; 100_000]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
    let open = runtime.block_on(tiered_redb::RedbConfig::new(place.path("d.redb")).open()).expect("opens");
    place.run(&["--store", &store, "get", "k"]).ends(4).says("open elsewhere");
    runtime.block_on(close(&open));
    damage(&place.path("d.redb"));
    place.run(&["--store", &store, "get", "k"]).ends(5).says("damaged");
}

async fn close(store: &tiered_redb::RedbStore) {
    use tiered::Store as _;
    store.close().await.expect("closes");
}

#[test]
fn output_shows_no_secrets_and_a_closed_stream_is_not_an_error() {
    let place = Place::new();
    let config = place.path("stack.toml");
    fs::write(&config, "url = \"s3:bucket?secret=hunter2\" oops").expect("written");
    let ran = place.run(&["--config", config.to_str().expect("utf-8"), "get", "k"]).ends(2);
    assert!(!ran.errors().contains("hunter2"), "{}", ran.errors());
    let store = place.url("d.redb");
    let twice = ["--frontend", &store, "--backend", &store, "get", "k"];
    place.run(&twice).ends(2).says("two stores");
    // A closed standard error causes no panic and the same exit code.
    let mut child = Command::new(env!("CARGO_BIN_EXE_tiered"))
        .args(["--store", "no-url", "get", "k"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ends").code(), Some(2));
}

#[test]
fn put_reports_which_tier_has_the_value() {
    let place = Place::new();
    let store = place.url("d.redb");
    let config = place.path("stack.toml");
    fs::write(&config, format!("url = {store:?}")).expect("written");
    let config = config.to_str().expect("utf-8");
    let text = place.run_with(&["--config", config, "--json", "put", "k"], b"v").ends(0).text();
    assert!(text.contains("\"tier\":\"store\""), "{text}");
    let local =
        ["--frontend", "moka:", "--backend", &store, "--write-policy", "frontend-only", "--json", "put", "k"];
    let text = place.run_with(&local, b"v").ends(0).text();
    assert!(text.contains("\"tier\":\"frontend\""), "{text}");
}

#[test]
fn the_conformance_command_passes_on_a_good_store() {
    let place = Place::new();
    for url in ["memory:", "moka:", &format!("{}?durability=buffer", place.url("d.redb"))] {
        let text = place.run(&["conformance", url]).ends(0).text();
        assert!(
            text.trim_end().lines().last().is_some_and(|last| last.contains(" passed, 0 failed, ")),
            "{text}"
        );
    }
}

#[test]
fn the_demo_runs_on_real_files() {
    let place = Place::new();
    let source = env!("CARGO_MANIFEST_DIR");
    let data = place.path("data");
    let text = place.run(&["demo", source, "--data", data.to_str().expect("utf-8")]).ends(0).text();
    for part in ["1. Import", "2. Reads", "3. Fifty writes", "4. Synchronising", "The data is in"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(data.join("backend.redb").is_file());
}

#[test]
fn a_failed_condition_exits_with_3() {
    let place = Place::new();
    let store = place.url("d.redb");
    let run = |arguments: &[&str], input: &[u8]| {
        place.run_with(&[["--store", &store].as_slice(), arguments].concat(), input)
    };
    let first = run(&["--json", "put", "k", "--if-absent"], b"one").ends(0).text();
    run(&["put", "k", "--if-absent"], b"two").ends(3).says("read it again");
    let version =
        first.split("\"version\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a version");
    run(&["put", "k", "--if-version", version], b"two").ends(0);
    run(&["put", "k", "--if-version", version], b"three").ends(3);
    run(&["delete", "k", "--if-version", version], b"").ends(3);
    run(&["put", "k", "--if-version", "yesterday"], b"x").ends(2).says("32 hexadecimal digits");
    assert_eq!(run(&["get", "k"], b"").ends(0).text(), "two");
}

#[test]
fn an_output_file_is_replaced_atomically() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", b"new");
    fs::write(place.path("out"), "old and longer").expect("written");
    place.run(&["--store", &store, "get", "k", "-o", "out"]).ends(0);
    assert_eq!(fs::read(place.path("out")).expect("reads"), b"new");
    place.run(&["--store", &store, "get", "k", "-o", "/dev/null"]).ends(0);
    place.run(&["--store", &store, "get", "k", "-o", "no/such/folder/out"]).ends(4);
    let names: Vec<_> =
        fs::read_dir(place.folder()).expect("reads").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names.len(), 2, "nothing else is left behind: {names:?}");
}

#[test]
fn a_slow_standard_input_holds_no_lock() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", b"v");
    let mut slow = Command::new(env!("CARGO_BIN_EXE_tiered"))
        .args(["--store", &store, "put", "slow"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    slow.stdin.as_mut().expect("piped").write_all(b"half").expect("written");
    for _ in 0..3 {
        place.run(&["--store", &store, "get", "k"]).ends(0);
    }
    drop(slow.stdin.take());
    assert!(slow.wait().expect("ends").success());
    assert_eq!(place.run(&["--store", &store, "get", "slow"]).ends(0).text(), "half");
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_rocksdb_url_names_a_folder() {
    let place = Place::new();
    let url = format!("rocksdb:{}", place.path("d").display());
    place.run(&["--store", &url, "get", "k"]).ends(4).says("create it first");
    place.put(&url, "k", b"value");
    assert_eq!(place.run(&["--store", &url, "get", "k"]).ends(0).text(), "value");
    place.run(&["--store", &format!("{url}?cache=1KiB"), "get", "k"]).ends(2).says("at least 1MiB");
    place.run(&["--store", &format!("{url}?verify=auto"), "get", "k"]).ends(2).says("verify");
    let redb = place.url("d.redb");
    place.run(&["sync", "--from", &url, "--to", &redb, "--strategy", "full-sync"]).ends(0);
    place.run(&["check", "--from", &url, "--to", &redb, "--values"]).ends(0);
    fs::create_dir(place.path("empty")).expect("made");
    let empty = format!("rocksdb:{}", place.path("empty").display());
    let dry = ["sync", "--from", &url, "--to", &empty, "--strategy", "full-sync", "--dry-run"];
    assert!(place.run(&dry).ends(0).text().contains("copied 1"));
    assert_eq!(fs::read_dir(place.path("empty")).expect("reads").count(), 0, "a dry run makes nothing");
    fs::create_dir(place.path("photos")).expect("made");
    fs::write(place.path("photos/cat.png"), "a cat").expect("written");
    let photos = format!("rocksdb:{}", place.path("photos").display());
    place.run(&["--store", &photos, "put", "k"]).ends(2).says("something else");
    let report = place.run(&["conformance", &url]).ends(0).text();
    assert!(report.contains(", 0 failed"), "{report}");
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn a_scheme_whose_feature_is_off_says_so() {
    Place::new().run(&["--store", "rocksdb:d", "get", "k"]).ends(2).says("needs the feature rocksdb");
}

#[test]
fn journal_commands_show_and_flush_pending_writes() {
    let place = Place::new();
    let (front, back) = (place.url("front.redb"), place.url("back.redb"));
    let stack = |rest: &[&str]| -> Vec<String> {
        let journal = place.path("journal").display().to_string();
        let all = [
            "--frontend",
            &front,
            "--backend",
            &back,
            "--write-policy",
            "write-behind",
            "--journal",
            &journal,
        ];
        all.iter().chain(rest).map(|argument| (*argument).to_owned()).collect()
    };
    let run = |rest: &[&str], input: &[u8]| {
        let all = stack(rest);
        place.run_with(&all.iter().map(String::as_str).collect::<Vec<_>>(), input)
    };
    place.put(&back, "seed", b"x");
    run(&["put", "k"], b"value").ends(0);
    assert_eq!(run(&["get", "k"], b"").ends(0).text(), "value");
    run(&["flush"], b"").ends(0);
    let journal = place.path("journal").display().to_string();
    let verified = place.run(&["--journal", &journal, "journal", "verify"]).ends(0).text();
    assert!(verified.contains("waiting   0") && verified.contains("whole"), "{verified}");
    assert_eq!(place.run(&["--journal", &journal, "journal", "list"]).ends(0).text(), "");
    run(&["journal", "retry"], b"").ends(0);
    assert!(run(&["journal", "drop", "7"], b"").ends(2).errors().contains("no write is parked"));
    // Another backend is refused, and so is damage that is followed by a good group.
    let other = place.url("other.redb");
    place.put(&other, "seed", b"x");
    let mut wrong = stack(&["get", "k"]);
    wrong[3].clone_from(&other);
    wrong[1] = place.url("other-front.redb");
    let refused = place.run(&wrong.iter().map(String::as_str).collect::<Vec<_>>()).ends(2);
    assert!(refused.errors().contains("the journal belongs to the backend"), "{}", refused.errors());
    place.run(&["--store", &back, "--journal", &journal, "get", "k"]).ends(2);
    place.run(&["journal", "list"]).ends(2);
    for entry in fs::read_dir(place.path("journal")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            let mut bytes = fs::read(&path).expect("reads");
            bytes[30] ^= 1;
            fs::write(&path, bytes).expect("writes");
        }
    }
    place.run(&["--journal", &journal, "journal", "verify"]).ends(5);
}
