//! The trait, for wrappers that are a [`Sealed`](crate::sealed::Sealed) store.

/// Implements [`Store`](tiered_core::Store) by the store in the field `0`.
macro_rules! delegate {
    ($wrapper:ty) => {
        #[deny(clippy::missing_trait_methods, reason = "no provided body may shadow the store's own")]
        #[async_trait::async_trait]
        impl tiered_core::Store for $wrapper {
            fn capabilities(&self) -> &tiered_core::Capabilities {
                self.0.capabilities()
            }

            async fn load(
                &self,
                key: &tiered_core::Key,
                options: &tiered_core::ReadOptions,
            ) -> tiered_core::Result<tiered_core::Read> {
                self.0.load(key, options).await
            }

            async fn put(
                &self,
                key: &tiered_core::Key,
                put: tiered_core::Put,
            ) -> tiered_core::Result<tiered_core::Written> {
                self.0.put(key, put).await
            }

            async fn delete(
                &self,
                key: &tiered_core::Key,
                delete: tiered_core::Delete,
            ) -> tiered_core::Result<tiered_core::Deleted> {
                self.0.delete(key, delete).await
            }

            fn list(&self, options: tiered_core::ListOptions) -> tiered_core::ListStream {
                self.0.list(options)
            }

            fn peek(&self, _key: &tiered_core::Key) -> Option<tiered_core::Entry> {
                // Decoding allocates, which `peek` must not: the feature is not declared.
                None
            }

            fn peek_hidden(&self, _key: &tiered_core::Key) -> Option<tiered_core::Entry> {
                None
            }

            async fn head(
                &self,
                key: &tiered_core::Key,
                options: &tiered_core::ReadOptions,
            ) -> tiered_core::Result<Option<std::sync::Arc<tiered_core::Metadata>>> {
                self.0.head(key, options).await
            }

            async fn get_many(
                &self,
                keys: &[tiered_core::Key],
                options: &tiered_core::ReadOptions,
            ) -> tiered_core::adapter::Reads {
                self.0.get_many(keys, options).await
            }

            async fn get_ranges(
                &self,
                key: &tiered_core::Key,
                ranges: &[std::ops::Range<u64>],
                options: &tiered_core::ReadOptions,
            ) -> tiered_core::Result<tiered_core::Read<tiered_core::Slices>> {
                self.0.get_ranges(key, ranges, options).await
            }

            async fn apply(
                &self,
                batch: tiered_core::Batch,
            ) -> tiered_core::Result<tiered_core::adapter::BatchOutcomes> {
                self.0.apply(batch).await
            }

            async fn read_stream(
                &self,
                key: &tiered_core::Key,
                options: &tiered_core::ReadOptions,
            ) -> tiered_core::Result<Option<(std::sync::Arc<tiered_core::Metadata>, tiered_core::ByteStream)>>
            {
                self.0.read_stream(key, options).await
            }

            /// Collects the value: its head, which tells its size, is stored before it.
            async fn put_stream(
                &self,
                key: &tiered_core::Key,
                put: tiered_core::Put,
                body: tiered_core::ByteStream,
            ) -> tiered_core::Result<tiered_core::Written> {
                self.0.put_stream(key, put, body).await
            }

            async fn claim(
                &self,
                scope: &tiered_core::adapter::Scope,
            ) -> tiered_core::Result<tiered_core::adapter::Claim> {
                self.0.inner().claim(scope).await
            }

            fn changes(&self) -> Option<tiered_core::adapter::ChangeStream> {
                self.0.inner().changes()
            }

            async fn mark(&self, name: &str) -> tiered_core::Result<Option<bytes::Bytes>> {
                self.0.inner().mark(name).await
            }

            async fn mark_names(&self, prefix: &str) -> tiered_core::Result<Vec<String>> {
                self.0.inner().mark_names(prefix).await
            }

            async fn set_mark(&self, name: &str, value: Option<bytes::Bytes>) -> tiered_core::Result<()> {
                self.0.inner().set_mark(name, value).await
            }

            async fn flush(&self) -> tiered_core::Result<()> {
                self.0.inner().flush().await
            }

            async fn close(&self) -> tiered_core::Result<()> {
                self.0.inner().close().await
            }
        }
    };
}

pub(crate) use delegate;
