//! A server that keeps every condition: what S3 does, and no server for tests does in all of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::stub::{Answer, Request, Stub};

/// An object, or an upload that becomes one.
#[derive(Clone, Debug, Default)]
struct Object {
    etag: String,
    metadata: Vec<(String, String)>,
    body: Vec<u8>,
    parts: HashMap<u32, Vec<u8>>,
}

/// What is on it.
#[derive(Debug, Default)]
struct Shelf {
    /// By name.
    objects: HashMap<String, Object>,
    /// By id.
    uploads: HashMap<String, Object>,
    count: u32,
}

/// A server with objects and uploads. `upset` may give another answer than the one that it has.
pub(crate) async fn shelf(upset: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Stub {
    let shelf: Arc<Mutex<Shelf>> = Arc::default();
    Stub::new(move |request, _| {
        let answer = shelf.lock().expect("no panic").answer(request);
        upset(request, answer)
    })
    .await
}

impl Shelf {
    fn answer(&mut self, request: &Request) -> Answer {
        let upload = request.parameter("uploadId").map(str::to_owned);
        match (request.method.as_str(), upload) {
            ("POST", None) => self.begin(request),
            ("PUT", Some(id)) => self.part(request, &id),
            ("POST", Some(id)) => self.complete(request, &id),
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                Answer::new(204)
            }
            ("PUT", None) => self.put(request),
            ("DELETE", None) => {
                if !self.holds(request) {
                    return Answer::new(412);
                }
                self.objects.remove(&request.path);
                Answer::new(204)
            }
            _ => self.get(request),
        }
    }

    /// Whether the request's condition holds.
    fn holds(&self, request: &Request) -> bool {
        let etag = self.objects.get(&request.path).map(|object| object.etag.as_str());
        let matches = request.header("if-match").is_none_or(|wanted| etag == Some(wanted));
        matches && (request.header("if-none-match").is_none() || etag.is_none())
    }

    fn etag(&mut self) -> String {
        self.count += 1;
        format!("\"{:032x}\"", self.count)
    }

    fn begin(&mut self, request: &Request) -> Answer {
        self.count += 1;
        let id = format!("upload{}", self.count);
        let upload = Object { metadata: request.metadata(), ..Object::default() };
        self.uploads.insert(id.clone(), upload);
        Answer::new(200).body(format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn part(&mut self, request: &Request, id: &str) -> Answer {
        let etag = self.etag();
        let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
        let (Some(upload), Some(number)) = (self.uploads.get_mut(id), number) else {
            return Answer::new(404);
        };
        upload.parts.insert(number, request.body.clone());
        Answer::new(200).header("etag", etag)
    }

    fn complete(&mut self, request: &Request, id: &str) -> Answer {
        if !self.holds(request) {
            return Answer::new(412);
        }
        let Some(mut upload) = self.uploads.remove(id) else {
            return Answer::new(404).body("<Error><Code>NoSuchUpload</Code></Error>");
        };
        let mut parts: Vec<_> = std::mem::take(&mut upload.parts).into_iter().collect();
        parts.sort_unstable_by_key(|(number, _)| *number);
        upload.body = parts.into_iter().flat_map(|(_, body)| body).collect();
        upload.etag = self.etag();
        let answer = format!(
            "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
            upload.etag
        );
        self.objects.insert(request.path.clone(), upload);
        Answer::new(200).body(answer)
    }

    fn put(&mut self, request: &Request) -> Answer {
        if !self.holds(request) {
            return Answer::new(412);
        }
        let etag = self.etag();
        let (metadata, body) = (request.metadata(), request.body.clone());
        let object = Object { etag: etag.clone(), metadata, body, parts: HashMap::new() };
        self.objects.insert(request.path.clone(), object);
        Answer::new(200).header("etag", etag)
    }

    fn get(&self, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.path) else {
            return Answer::new(404).body("<Error><Code>NoSuchKey</Code></Error>");
        };
        if !self.holds(request) {
            return Answer::new(412);
        }
        let answer = Answer::new(200).header("etag", &object.etag);
        let answer = answer.header("last-modified", "Sat, 28 Nov 2026 10:00:00 GMT");
        let with = |answer: Answer, (name, value): &(String, String)| answer.header(name, value);
        object.metadata.iter().fold(answer, with).body(object.body.clone())
    }
}
