//! What a connection that is not trusted means, and what to do about it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};
use url::Url;

use crate::{Target, Tls};

/// What Go's servers answer to plain HTTP on a port for TLS.
const PLAIN_TEXT: &str = "Client sent an HTTP request to an HTTPS server";

/// Whether an answer says that the port wants TLS. It comes with status 400.
#[must_use]
pub fn is_plain_text_refusal(body: &str) -> bool {
    body.contains(PLAIN_TEXT)
}

/// The same for people.
#[must_use]
pub fn plain_text_refused(target: Target) -> String {
    format!(
        "{} expects TLS at this address: write https:// in {}, and name the authority's certificate in {}",
        target.name, target.address_variable, target.ca_variable
    )
}

/// Why one side does not trust the other, and what to do; `None` if the error is none of that kind.
pub(crate) fn distrust(error: &reqwest::Error, target: Target, address: &Url, tls: &Tls) -> Option<String> {
    explain(find(error)?, target, address, tls)
}

/// The innermost error of TLS. `io::Error` shows the cause of what it wraps as its source, not that itself.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = find(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn explain(error: &rustls::Error, target: Target, address: &Url, tls: &Tls) -> Option<String> {
    let at = format!("{} at {address}", target.name);
    Some(match error {
        rustls::Error::InvalidCertificate(fault) => theirs(fault, &at, target, tls),
        rustls::Error::AlertReceived(alert) => ours(*alert, &at, target, tls)?,
        // Bytes that are no TLS at all.
        rustls::Error::InvalidMessage(_) => format!(
            "{at} does not speak TLS: write http:// in {}, or turn TLS on there",
            target.address_variable
        ),
        _ => return None,
    })
}

/// Their certificate is not accepted here.
fn theirs(fault: &CertificateError, at: &str, target: Target, tls: &Tls) -> String {
    let authorities = match &tls.ca_file {
        Some(file) => format!("{} ({})", file.display(), target.ca_variable),
        None => format!("the system's authorities ({} is not set)", target.ca_variable),
    };
    match fault {
        // Another authority of the same name makes a signature that does not fit.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {at} was not signed by any of {authorities}: put the certificate of its \
             authority there, during a rotation beside the earlier one"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {at} has expired: renew it there ({fault})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {at} is not valid yet: compare the clocks of both machines ({fault})")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate of {at} is for another name ({fault}): use one of its names in {}, or say with \
             {} which one to expect, usually {}",
            target.address_variable, target.server_name_variable, target.usual_name
        ),
        other => format!("the certificate of {at} is not accepted: {other}"),
    }
}

/// Our certificate is not accepted there.
fn ours(alert: AlertDescription, at: &str, target: Target, tls: &Tls) -> Option<String> {
    let Some(file) = &tls.certificate_file else {
        return match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure => Some(format!(
                "{at} asks for a client certificate: name one in {} that its authority has signed",
                target.certificate_variable
            )),
            _ => None,
        };
    };
    let file = file.display();
    Some(match alert {
        AlertDescription::CertificateExpired => {
            format!("{at} refuses our certificate {file} because it has expired: renew it")
        }
        AlertDescription::UnknownCA | AlertDescription::BadCertificate => format!(
            "{at} does not accept our certificate {file}: it must be valid for clients, and signed by an \
             authority that {} trusts",
            target.name
        ),
        AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => format!("{at} refuses our certificate {file} ({alert:?})"),
        _ => return None,
    })
}

/// The whole chain without the URL, which names keys: the outermost text of an HTTP client says only that "sending the
/// request" failed.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    if let Some(url) = error.url() {
        text = text.replace(&format!(" for url ({url})"), "");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: rustls::Error, tls: &Tls) -> Option<String> {
        explain(&error, crate::NOMAD, &"https://10.0.0.1:4646".parse().unwrap(), tls)
    }

    #[test]
    fn each_kind_of_distrust_says_what_to_do() {
        let none = Tls::default();
        let ca = Tls { ca_file: Some("/etc/ca.pem".into()), ..Tls::default() };
        let own = Tls { certificate_file: Some("/etc/me.pem".into()), ..Tls::default() };
        let certificate = rustls::Error::InvalidCertificate;
        for (error, tls, words) in [
            (certificate(CertificateError::UnknownIssuer), &none, "NOMAD_CACERT is not set"),
            (certificate(CertificateError::BadSignature), &ca, "/etc/ca.pem"),
            (certificate(CertificateError::Expired), &ca, "renew it"),
            (certificate(CertificateError::NotValidYet), &ca, "clocks"),
            (certificate(CertificateError::NotValidForName), &ca, "NOMAD_TLS_SERVER_NAME"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), &ca, "NOMAD_CLIENT_CERT"),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), &own, "/etc/me.pem"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateExpired), &own, "expired"),
        ] {
            let told = told(error.clone(), tls).unwrap_or_default();
            assert!(told.contains(words), "{error}: {told}");
        }
        assert_eq!(told(rustls::Error::HandshakeNotComplete, &none), None);
    }

    #[test]
    fn an_error_of_tls_is_found_within_those_that_wrap_it() {
        let inner = io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired));
        let outer = io::Error::other(inner);
        assert!(matches!(find(&outer), Some(rustls::Error::InvalidCertificate(_))));
        assert!(find(&io::Error::other("else")).is_none());
    }
}
