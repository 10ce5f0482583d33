//! Probes what the server can do. Some servers silently ignore the condition of a write.

use aws_sdk_s3::primitives::ByteStream;
use tiered_core::adapter::VersionMint;
use tiered_core::{Error, ErrorKind, Result};

use crate::client::Client;
use crate::error::Failed;
use crate::store::RESERVED;

/// What was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) conditional_put: bool,
    pub(crate) conditional_delete: bool,
}

/// Whether the bucket can be reached.
pub(crate) async fn bucket(client: &Client) -> Result<()> {
    let reached =
        client.repeat(|| client.once(0, client.s3.head_bucket().bucket(&client.bucket).send())).await;
    match reached {
        Ok(_) => Ok(()),
        Err(Failed::Missing) => Err(Error::new(ErrorKind::NotFound, "the bucket does not exist; create it")),
        Err(failed) => Err(failed.into_opening_error()),
    }
}

/// Writes an object twice and deletes it twice: with conditions that do not hold, and with conditions that do.
pub(crate) async fn probe(client: &Client, mint: &VersionMint) -> Result<Abilities> {
    let name = format!("{}{RESERVED}probe-{}", client.prefix, mint.mint());
    let found = ask(client, &name).await;
    // The probe's object is deleted in any case.
    let gone = client.s3.delete_object().bucket(&client.bucket).key(&name).send();
    client.once(0, gone).await.map_err(Failed::into_opening_error)?;
    let abilities = found?;
    tracing::debug!(?abilities, "what the server keeps of conditional writes");
    Ok(abilities)
}

/// Whether a request whose condition does not hold was refused for that. Another refusal says that the server does not
/// know conditions.
pub(crate) fn refused<T>(answer: Result<T, Failed>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(false),
        Err(Failed::Condition | Failed::Missing) => Ok(true),
        Err(Failed::Error(error))
            if matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::Other | ErrorKind::InvalidInput
            ) =>
        {
            Ok(false)
        }
        Err(failed) => Err(failed.into_opening_error()),
    }
}

async fn ask(client: &Client, name: &str) -> Result<Abilities> {
    let put = |body: &'static [u8]| {
        client.s3.put_object().bucket(&client.bucket).key(name).body(ByteStream::from_static(body))
    };
    let delete = || client.s3.delete_object().bucket(&client.bucket).key(name);
    let mut abilities = Abilities::default();
    let first = match client.once(0, put(b"first").if_none_match("*").send()).await {
        Ok(first) => first,
        // The server knows no conditions: nothing more to ask.
        Err(Failed::Error(error)) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Other) => {
            return Ok(abilities);
        }
        Err(failed) => return Err(failed.into_opening_error()),
    };
    let second = refused(client.once(0, put(b"second").if_none_match("*").send()).await)?;
    let etag = first.e_tag().unwrap_or_default().to_owned();
    let wrong = "\"00000000000000000000000000000000\"";
    let third = second && refused(client.once(0, put(b"third").if_match(wrong).send()).await)?;
    if third {
        let fourth = client.once(0, put(b"fourth").if_match(&etag).send()).await;
        let Ok(fourth) = fourth else { return Ok(abilities) };
        abilities.conditional_put = true;
        let kept = refused(client.once(0, delete().if_match(wrong).send()).await)?;
        let etag = fourth.e_tag().unwrap_or_default().to_owned();
        if kept {
            // The matching condition deletes the object.
            let deleted = client.once(0, delete().if_match(&etag).send()).await.is_ok();
            let head = client.once(0, client.s3.head_object().bucket(&client.bucket).key(name).send()).await;
            abilities.conditional_delete = deleted && matches!(head, Err(Failed::Missing));
        }
    }
    Ok(abilities)
}
