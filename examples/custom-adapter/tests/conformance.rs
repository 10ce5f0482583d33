//! The adapter keeps the specification: one test per case.

use std::sync::Arc;

use custom_adapter::MapStore;
use tiered_core::Store;

tiered_conformance::suite!({
    let store = Arc::new(MapStore::new());
    move || {
        let store: Arc<dyn Store> = store.clone();
        async move { store }
    }
});
