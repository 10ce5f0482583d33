//! Listings: page by page, in the server's order, which is checked.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::Validator;
use tiered_core::{Error, ErrorKind, Key, ListOptions, ListStream, Listed, Operation, Result};

use crate::error::Failed;
use crate::header::percent_decode;
use crate::store::{RESERVED, S3Store};

/// Keys in a page: as many as S3 gives.
const PAGE: usize = 1_000;

/// Where a listing is.
struct Cursor {
    options: ListOptions,
    token: Option<String>,
    last: Option<Key>,
    left: Option<usize>,
    ended: bool,
}

impl S3Store {
    pub(crate) fn list_entries(&self, options: ListOptions) -> ListStream {
        let left = options.limit;
        let cursor = Cursor { options, token: None, last: None, left, ended: false };
        let store = self.clone();
        let pages = stream::unfold(cursor, move |mut cursor| {
            let store = store.clone();
            async move {
                if cursor.ended || cursor.left == Some(0) {
                    return None;
                }
                let page = match store.page(&mut cursor).await {
                    Ok(page) => page.into_iter().map(Ok).collect(),
                    Err(error) => {
                        cursor.ended = true;
                        vec![Err(store.failed(error, Operation::List))]
                    }
                };
                Some((page, cursor))
            }
        });
        Box::pin(pages.flat_map(stream::iter::<Vec<Result<Listed>>>))
    }

    async fn page(&self, cursor: &mut Cursor) -> Result<Vec<Listed>> {
        self.check_open(Operation::List)?;
        let client = &self.0.client;
        let base = client.prefix.as_str();
        let answer = client.repeat(|| {
            let size = cursor.left.map_or(PAGE, |left| left.min(PAGE));
            let after = cursor.options.start_after.as_ref().map(|key| client.name(key));
            let request = client
                .s3
                .list_objects_v2()
                .bucket(&client.bucket)
                .prefix(format!("{base}{}", cursor.options.prefix))
                .encoding_type(EncodingType::Url)
                .max_keys(i32::try_from(size).unwrap_or(1_000))
                .set_start_after(after.filter(|_| cursor.token.is_none()))
                .set_continuation_token(cursor.token.clone());
            client.once(0, request.send())
        });
        let answer = answer.await.map_err(Failed::into_error)?;
        let mut page = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let Some(listed) = self.listed(&answer, object)? else { continue };
            if !cursor.options.contains(&listed.key) {
                continue;
            }
            if cursor.last.as_ref().is_some_and(|last| listed.key <= *last) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the server does not list in the order of bytes; use another bucket or server",
                ));
            }
            cursor.last = Some(listed.key.clone());
            page.push(listed);
        }
        if let Some(left) = &mut cursor.left {
            page.truncate(*left);
            *left -= page.len();
        }
        cursor.token = answer.next_continuation_token().map(str::to_owned);
        cursor.ended = cursor.token.is_none();
        Ok(page)
    }

    /// An object as a key; `None` for what is no key of this store.
    fn listed(&self, answer: &ListObjectsV2Output, object: &Object) -> Result<Option<Listed>> {
        let name = object.key().unwrap_or_default();
        let name = match answer.encoding_type() {
            Some(EncodingType::Url) => decode(name),
            _ => Some(name.to_owned()),
        };
        let key = name.as_deref().and_then(|name| name.strip_prefix(&self.0.client.prefix));
        let Some(key) = key.filter(|key| !key.starts_with(RESERVED)).and_then(|key| Key::new(key).ok())
        else {
            return Ok(None);
        };
        let total = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        // An object of another layout is met when it is read.
        let size = self.0.layout.size(total).unwrap_or(0);
        let validator = object.e_tag().map(Validator::new).transpose()?;
        Ok(Some(Listed::new(key, size).with_validator(validator)))
    }
}

/// A name as a listing has it with `encoding-type=url`: a plus stands for a space.
pub(crate) fn decode(name: &str) -> Option<String> {
    percent_decode(&name.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn listed_names_are_decoded() {
        assert_eq!(decode("a+b%2Bc%20d/%C3%A9").as_deref(), Some("a b+c d/é"));
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%ff"), None);
    }
}
