//! A component for wasmCloud that answers by HTTP and asks by HTTP, and misbehaves when one says so.
//!
//! Asked by HTTP, the path says what it does: `/value/KEY` shows what it keeps, `/echo` gives the body back, `/big/N` so many
//! bytes, `/fetch/URL` what another host says; `/trap`, `/loop` and `/grow` end it, `/silent` gives no answer,
//! `/unfinished` the first half of one, `/refuse` an error. A message is an order: `put KEY VALUE` keeps, `ask URL` asks
//! (following what it is redirected to), `briefly URL` waits half a second and no longer, `many N URL` asks so many at a
//! time, `stubborn URL` asks for ever; what came of it is published to the subject of option `out`.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:dashboard;
            world dashboard {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: "../../../wit/wasmcloud",
        world: "test:dashboard/dashboard",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use std::io::{Read as _, Write as _};
use std::time::Duration;

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::wasi::config0_2_0_rc_1::store as config;
use bindings::wasi::keyvalue::store;
use bindings::wasmcloud::messaging::consumer;
use wasip2::exports::http::incoming_handler;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, IncomingResponse, OutgoingBody,
    OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};

/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 3;

wasip2::http::proxy::export!(Component);

struct Component;

// === what it is asked ===

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.split('/').nth(1).unwrap_or_default() {
            "trap" => panic!("as it was told"),
            "loop" => loop {
                std::hint::black_box(&path);
            },
            "grow" => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            "silent" => std::mem::forget(out),
            "refuse" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(None))),
            _ => {
                let (status, page) = page(&request, &path);
                answer(out, status, &page, path == "/unfinished");
            }
        }
    }
}

fn page(request: &IncomingRequest, path: &str) -> (u16, Vec<u8>) {
    let argument = path.rsplit('/').next().unwrap_or_default();
    match path.split('/').nth(1).unwrap_or_default() {
        "value" => match store::open("values").and_then(|bucket| bucket.get(argument)) {
            Ok(Some(value)) => (200, value),
            Ok(None) => (404, b"nothing\n".to_vec()),
            Err(error) => (500, format!("{error:?}").into_bytes()),
        },
        "echo" => {
            let mut text = Vec::new();
            if let Ok(body) = request.consume()
                && let Ok(mut stream) = body.stream()
            {
                let _ = stream.read_to_end(&mut text);
            }
            (200, text)
        }
        "big" => (200, vec![b'x'; argument.parse().unwrap_or(0)]),
        "fetch" => match ask(path.trim_start_matches("/fetch/")) {
            Ok(text) => (200, text.into_bytes()),
            Err(error) => (500, error.into_bytes()),
        },
        "unfinished" => (200, b"the first half".to_vec()),
        _ => (404, b"no such page\n".to_vec()),
    }
}

fn answer(out: ResponseOutparam, status: u16, page: &[u8], unfinished: bool) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(mut stream) = body.write() {
        // Who asked may be gone.
        let _ = stream.write_all(page);
        let _ = stream.flush();
    }
    if unfinished {
        std::mem::forget(body);
    } else {
        let _ = OutgoingBody::finish(body, None);
    }
}

// === what it asks ===

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let said = match word() {
            "put" => {
                let (key, value) = (word(), word());
                let put = store::open("values").and_then(|bucket| bucket.set(key, value.as_bytes()));
                put.map(|()| "kept".to_owned()).map_err(|error| format!("{error:?}"))
            }
            "ask" => ask(word()),
            "stubborn" => {
                let url = word();
                loop {
                    let _ = ask(url);
                }
            }
            "briefly" => {
                begin(word(), Some(Duration::from_millis(500))).and_then(finish).map(|(_, text)| text)
            }
            "many" => {
                let (number, url) = (word().parse().unwrap_or(0), word());
                let pending: Vec<_> = (0..number).map(|_| begin(url, None)).collect();
                let good = pending.into_iter().filter(|pending| pending.is_ok()).flatten();
                Ok(good.map(finish).filter(Result::is_ok).count().to_string())
            }
            other => Err(format!("what is {other:?}?")),
        };
        let body = said.unwrap_or_else(|error| format!("error: {error}")).into_bytes();
        let subject = match message.reply_to {
            Some(subject) => subject,
            None => config::get("out").ok().flatten().unwrap_or_default(),
        };
        consumer::publish(&BrokerMessage { subject, body, reply_to: None })
    }
}

fn ask(url: &str) -> Result<String, String> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTIONS_MAX {
        let (moved, text) = begin(&url, None).and_then(finish)?;
        match moved {
            Some(place) => url = place,
            None => return Ok(text),
        }
    }
    Err("moved too often".to_owned())
}

fn begin(url: &str, patience: Option<Duration>) -> Result<FutureIncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let request = OutgoingRequest::new(Fields::new());
    let refused = |()| "not an address".to_owned();
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let options = patience.map(|patience| {
        let options = RequestOptions::new();
        let nanos = u64::try_from(patience.as_nanos()).ok();
        let _ = options.set_first_byte_timeout(nanos);
        let _ = options.set_between_bytes_timeout(nanos);
        options
    });
    outgoing_handler::handle(request, options).map_err(|code| format!("{code:?}"))
}

/// Where the answer says to ask instead, and its text.
fn finish(pending: FutureIncomingResponse) -> Result<(Option<String>, String), String> {
    pending.subscribe().block();
    let got = pending.get().ok_or("not there")?.map_err(|()| "taken before")?;
    let answer: IncomingResponse = got.map_err(|code| format!("{code:?}"))?;
    let status = answer.status();
    let place = answer.headers().get("location").into_iter().next();
    let body = answer.consume().map_err(|()| "no body")?;
    let mut stream = body.stream().map_err(|()| "no stream")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| format!("body: {error}"))?;
    let place = place.and_then(|place| String::from_utf8(place).ok());
    Ok((place.filter(|_| (300..400).contains(&status)), format!("{status} {text}")))
}
