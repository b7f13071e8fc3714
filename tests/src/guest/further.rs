//! The guest's further ports: each that it finds as `PORT_<LABEL>` it serves, too, once `GUEST_<LABEL>_START_MS` have
//! passed. What it answers there says which port it was.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;

use super::{listen, routes};

/// The response's field that names the port.
const FIELD: &str = "guest-port";

/// Begins to serve them all. `default` is served by whoever calls.
pub(super) fn serve(default: SocketAddr, backlog: u32) {
    for (name, port) in std::env::vars() {
        let Some(label) = name.strip_prefix("PORT_") else { continue };
        let Some(port) = port.parse().ok().filter(|port| *port != default.port()) else { continue };
        let ip = std::env::var(format!("NOMAD_IP_{}", label.to_ascii_lowercase()));
        let ip = ip.ok().and_then(|ip| ip.parse().ok()).unwrap_or(default.ip());
        tokio::spawn(serve_one(SocketAddr::new(ip, port), label.to_owned(), backlog));
    }
}

async fn serve_one(address: SocketAddr, label: String, backlog: u32) {
    let delay = std::env::var(format!("GUEST_{label}_START_MS")).ok().and_then(|text| text.parse().ok());
    crate::elapse(Duration::from_millis(delay.unwrap_or(0))).await;
    let listener = listen(address, backlog).expect("the port that was given");
    let name = HeaderValue::from_str(&label.to_ascii_lowercase()).expect("a label");
    let router = routes::router().layer(map_response(move |mut response: Response| {
        response.headers_mut().insert(FIELD, name.clone());
        std::future::ready(response)
    }));
    let _ = axum::serve(listener, router).await;
}
