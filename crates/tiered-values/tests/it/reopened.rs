//! Stacks on disk that are closed and opened again.

use serde_json::json;
use tiered_core::{Store as _, WritePolicy};
use tiered_values::{Documents, Json, Typed};

use crate::logs::log_of;
use crate::stacks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_documents_and_logs_go_on_after_a_stack_is_opened_again() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteBehind, WritePolicy::WriteAround] {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..4_u64 {
            let store = stacks::two_tiers(&folder, policy).await;
            let counts = Typed::<u64>::new(store.clone(), Json).expect("valid");
            let documents = Documents::new(store.clone()).expect("valid");
            let log = log_of(store.clone(), 3);

            let (old, _) = counts.update("n", |old| old.unwrap_or(&0) + 1).await.expect("updated");
            assert_eq!(old.unwrap_or(0), round, "{policy:?}");
            let old = documents.assoc_in("d", ["rounds", "last"], json!(round)).await.expect("set");
            assert_eq!(old, round.checked_sub(1).map(|last| json!(last)), "{policy:?}");
            for index in 0..5 {
                let number = log.append(format!("{round}/{index}")).await.expect("appended");
                assert_eq!(number, round * 5 + index, "{policy:?}");
            }
            let first = log.trim(round * 5).await.expect("trimmed");
            let elements = log.read(first, 100).await.expect("read");
            assert_eq!(elements.last().expect("there").0, round * 5 + 4, "{policy:?}");
            store.close().await.expect("closes");
        }
    }
}
