//! When certificates end: theirs, as they were shown, and ours, as they lie in files.

use std::path::Path;

use jiff::Timestamp;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::report::Finding;

/// A certificate that ends sooner is worth a warning.
const SOON_DAYS: i64 = 14;

/// The certificate under which somebody answered.
pub(crate) fn shown(name: &str, der: &[u8]) -> Finding {
    let check = format!("{name}.certificate");
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => judge(&check, &certificate, "Renew it there."),
        Err(error) => {
            Finding::error(check, format!("the certificate cannot be read: {error}"), "Replace it.")
        }
    }
}

/// The first certificate of a PEM file.
pub(crate) fn of_file(name: &str, path: &Path) -> Finding {
    let check = format!("{name}.client-certificate");
    let fix = "Renew it; the file is read again without a restart.";
    let pem = std::fs::read(path).map_err(|error| error.to_string());
    let first = pem.and_then(|pem| match Pem::iter_from_buffer(&pem).next() {
        Some(first) => first.map_err(|error| error.to_string()),
        None => Err("there is no certificate in it".to_owned()),
    });
    match first {
        Ok(pem) => match pem.parse_x509() {
            Ok(certificate) => judge(&check, &certificate, fix),
            Err(error) => Finding::error(check, format!("{}: {error}", path.display()), fix),
        },
        Err(why) => Finding::error(check, format!("{}: {why}", path.display()), fix),
    }
}

fn judge(check: &str, certificate: &X509Certificate<'_>, fix: &str) -> Finding {
    let end = Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    let subject = certificate.subject().to_string();
    let left = end.duration_since(Timestamp::now());
    if left.is_negative() {
        Finding::error(check, format!("the certificate of {subject} has expired at {end}"), fix)
    } else if left.as_hours() < SOON_DAYS * 24 {
        let found =
            format!("the certificate of {subject} expires in {} days, at {end}", left.as_hours() / 24);
        Finding::warning(check, found, fix)
    } else {
        Finding::ok(check, format!("the certificate of {subject} is valid until {end}"))
    }
}
