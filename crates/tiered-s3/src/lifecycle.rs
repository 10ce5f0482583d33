//! Whether there is a store under the prefix, and its removal.
//!
//! Removing it is many requests. A mark of the removal is written before the first object goes, and goes last: until
//! then the store does not open.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::{Create, Error, ErrorKind, Feature, Key, Operation, Result};

use crate::client::{CONFLICTS, Client, is_undone, pause};
use crate::config::S3Config;
use crate::error::Failed;
use crate::head::is_ours;
use crate::list::decode;
use crate::probe;
use crate::store::{RESERVED, S3Store};

/// The marks, behind what is reserved.
const MARKS: &str = "marks/";

/// The objects of probes, behind what is reserved.
const PROBES: &str = "probe-";

/// The mark of a new store.
const CREATED: &str = "tiered.created";

/// The mark of a store whose removal has begun.
const DESTROYING: &str = "tiered.destroying";

/// Requests at a time.
const CONCURRENCY: usize = 16;

impl S3Config {
    /// Whether there is a store under the prefix: any key or mark. Changes nothing. Where the bucket
    /// does not exist there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_s3::S3Config;
    ///
    /// if S3Config::new("my-bucket").prefix("settings/").exists().await? {
    ///     println!("there is a store");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let place = self.place();
        let exists = async {
            let client = self.reach().await?;
            match probe::bucket(&client).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
                Ok(()) => holds_anything(&client).await,
            }
        };
        exists.await.map_err(|error| error.at_place(place).during(Operation::Open).in_tier("s3"))
    }

    /// Removes the store under the prefix: the objects that a store of this crate wrote, and its marks. The bucket stays,
    /// and so do the objects of others, which have no header `x-amz-meta-tiered-version`. Each object is looked at first:
    /// a request for each key, and one more where the server deletes conditionally. An object that is written meanwhile
    /// is looked at again there. When it returns, the objects are gone. In a bucket with versions, older ones stay.
    ///
    /// Interrupted, it leaves a store that does not open, and that the next call removes. Other handles of the store are not
    /// seen: close them first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none; else as [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropped half-way it is as if it was interrupted.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_s3::S3Config;
    ///
    /// S3Config::new("my-bucket").prefix("settings/").destroy().await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy(self) -> Result<()> {
        let place = self.place();
        let destroyed = async {
            let client = self.reach().await?;
            probe::bucket(&client).await?;
            if !holds_anything(&client).await? {
                return Err(Error::new(ErrorKind::NotFound, "there is no store under the prefix"));
            }
            S3Store::reached(self, client).await?.destroy_all().await
        };
        destroyed.await.map_err(|error| error.at_place(place).during(Operation::Destroy).in_tier("s3"))
    }
}

/// What a listing finds.
struct Listed {
    /// The whole name.
    name: String,
    /// The name behind the prefix.
    rest: String,
}

/// Where a listing of names goes on.
#[derive(Default)]
struct Page {
    token: Option<String>,
    ended: bool,
}

/// The next names of objects under the prefix and `within`.
async fn next(client: &Client, within: &str, page: &mut Page) -> Result<Vec<Listed>> {
    let answer = client.repeat(|| {
        let request = client
            .s3
            .list_objects_v2()
            .bucket(&client.bucket)
            .prefix(format!("{}{within}", client.prefix))
            .encoding_type(aws_sdk_s3::types::EncodingType::Url);
        client.once(0, request.set_continuation_token(page.token.clone()).send())
    });
    let answer = answer.await.map_err(Failed::into_opening_error)?;
    page.token = answer.next_continuation_token().map(str::to_owned);
    page.ended = page.token.is_none();
    let encoded = answer.encoding_type().is_some();
    let listed = answer.contents().iter().filter_map(|object| {
        let name = object.key()?;
        let name = if encoded { decode(name)? } else { name.to_owned() };
        let rest = name.strip_prefix(&client.prefix)?.to_owned();
        Some(Listed { name, rest })
    });
    Ok(listed.collect())
}

/// Whether there is a key or a mark.
async fn holds_anything(client: &Client) -> Result<bool> {
    let mut page = Page::default();
    while !page.ended {
        let found = next(client, "", &mut page).await?;
        let is_any = |rest: &str| match rest.strip_prefix(RESERVED) {
            Some(reserved) => reserved.starts_with(MARKS),
            None => Key::new(rest).is_ok(),
        };
        if found.iter().any(|listed| is_any(&listed.rest)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a store that is half removed.
async fn check_whole(client: &Client) -> Result<()> {
    let name = format!("{}{RESERVED}{MARKS}{DESTROYING}", client.prefix);
    let got =
        client.repeat(|| client.once(0, client.s3.get_object().bucket(&client.bucket).key(&name).send()));
    match got.await {
        Ok(_) => Err(Error::new(
            ErrorKind::Corrupt,
            "the removal of this store was interrupted, and a part of it is gone; destroy it again",
        )),
        Err(Failed::Missing) => Ok(()),
        Err(failed) => match failed.into_opening_error() {
            // A role that may not list is not told that there is no such object.
            error if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            error => Err(error),
        },
    }
}

impl S3Store {
    /// Looks whether the place is as `create` wants it, and makes a new one.
    pub(crate) async fn settle(&self, create: Create) -> Result<()> {
        let client = &self.0.client;
        check_whole(client).await?;
        if create == Create::IfAbsent {
            return Ok(());
        }
        match (holds_anything(client).await?, create) {
            (false, Create::Never) => {
                Err(Error::new(ErrorKind::NotFound, "there is no store under the prefix; create it"))
            }
            (true, Create::New) => Err(already_there()),
            (false, Create::New) => self.note_created().await,
            _ => Ok(()),
        }
    }

    /// Of two that create the store at the same time, one fails, where the server writes conditionally.
    async fn note_created(&self) -> Result<()> {
        let client = &self.0.client;
        let name = format!("{}{RESERVED}{MARKS}{CREATED}", client.prefix);
        let request = client.s3.put_object().bucket(&client.bucket).key(name);
        let request = request.body(Bytes::from_static(b"1").into());
        let guarded = self.0.capabilities.has(Feature::ConditionalPut);
        let request = if guarded { request.if_none_match("*") } else { request };
        match client.once(0, request.send()).await {
            Ok(_) => Ok(()),
            Err(Failed::Condition | Failed::Conflict(_)) => Err(already_there()),
            Err(failed) => Err(failed.into_opening_error()),
        }
    }

    async fn destroy_all(&self) -> Result<()> {
        let client = &self.0.client;
        self.write_mark(DESTROYING, Some(Bytes::from_static(b"1"))).await?;
        let mut page = Page::default();
        while !page.ended {
            let found = next(client, "", &mut page).await?;
            let keys = found.into_iter().filter(|listed| !listed.rest.starts_with(RESERVED));
            self.remove_keys(keys.filter_map(|listed| Key::new(listed.rest).ok()).collect()).await?;
        }
        self.remove_reserved().await?;
        self.write_mark(DESTROYING, None).await
    }

    /// Removes the objects of these keys that are ours.
    async fn remove_keys(&self, keys: Vec<Key>) -> Result<()> {
        if self.0.capabilities.has(Feature::ConditionalDelete) {
            let removed = stream::iter(keys).map(|key| async move { self.remove_guarded(&key).await });
            let removed: Vec<Result<()>> = removed.buffer_unordered(CONCURRENCY).collect().await;
            return removed.into_iter().collect();
        }
        let looked = stream::iter(keys).map(|key| async move {
            let ours = self.etag_of_ours(&key).await;
            (key, ours)
        });
        let looked: Vec<(Key, Result<Option<String>>)> = looked.buffer_unordered(CONCURRENCY).collect().await;
        let mut ours = Vec::new();
        for (key, found) in looked {
            if found?.is_some() {
                ours.push(key);
            }
        }
        let failed: HashMap<Key, Error> =
            if ours.is_empty() { HashMap::new() } else { self.delete_listed(&ours).await };
        match failed.into_iter().next() {
            None => Ok(()),
            Some((key, error)) => Err(error.for_key(&key)),
        }
    }

    /// Removes the object of a key if it is ours, as it was looked at.
    async fn remove_guarded(&self, key: &Key) -> Result<()> {
        let client = &self.0.client;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(etag) = self.etag_of_ours(key).await? else { return Ok(()) };
            let request = client.s3.delete_object().bucket(&client.bucket).key(client.name(key));
            match client.once(0, request.if_match(etag).send()).await {
                Ok(_) | Err(Failed::Missing) => return Ok(()),
                // It is another object now: it is looked at again.
                Err(Failed::Condition | Failed::Conflict(_)) if attempt < CONFLICTS => {}
                Err(Failed::Error(error)) if attempt < CONFLICTS && is_undone(&error) => {}
                Err(failed) => return Err(failed.into_error().for_key(key)),
            }
            pause(attempt).await;
        }
    }

    /// The `ETag` of the object of a key, if a store of this crate wrote it.
    async fn etag_of_ours(&self, key: &Key) -> Result<Option<String>> {
        let (client, name) = (&self.0.client, self.0.client.name(key));
        let head = client
            .repeat(|| client.once(0, client.s3.head_object().bucket(&client.bucket).key(&name).send()));
        match head.await {
            Ok(answer) if is_ours(answer.metadata()) => Ok(answer.e_tag().map(str::to_owned)),
            Ok(_) | Err(Failed::Missing) => Ok(None),
            Err(failed) => Err(failed.into_error().for_key(key)),
        }
    }

    /// Removes the marks, but for that of the removal, and what probes have left.
    async fn remove_reserved(&self) -> Result<()> {
        let client = &self.0.client;
        let mut page = Page::default();
        while !page.ended {
            for listed in next(client, RESERVED, &mut page).await? {
                let rest = listed.rest.strip_prefix(RESERVED).unwrap_or_default();
                let mark = rest.strip_prefix(MARKS);
                if mark.is_some_and(|mark| mark != DESTROYING) || rest.starts_with(PROBES) {
                    let request = client.s3.delete_object().bucket(&client.bucket).key(&listed.name);
                    match client.once(0, request.send()).await {
                        Ok(_) | Err(Failed::Missing) => {}
                        Err(failed) => return Err(failed.into_error()),
                    }
                }
            }
        }
        Ok(())
    }
}

fn already_there() -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "there is a store under the prefix already; connect to it, or destroy it first",
    )
}
