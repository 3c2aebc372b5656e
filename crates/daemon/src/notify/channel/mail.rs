//! E-mail by SMTP. What resolves an alarm refers to it, so that mail programs show them together.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message as Letter, Tokio1Executor,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};

use super::{Failure, Means, TIMEOUT};
use crate::error::with_causes;
use crate::{
    notify::{Message, render},
    settings::{Mail, MailTls},
};

/// For all of it: name, connection, TLS, sign-in, message. Each step has [`TIMEOUT`].
const WHOLE: Duration = Duration::from_secs(30);

pub(super) async fn send(mail: &Mail, message: &Message, means: &Means) -> Result<(), Failure> {
    let letter = letter(mail, message, means)?;
    let transport = transport(mail, means).await?;
    match tokio::time::timeout(WHOLE, transport.send(letter)).await {
        Ok(Ok(_)) => Ok(()),
        // The answers of mail servers name addresses, and no passwords.
        Ok(Err(error)) if error.is_permanent() => {
            Err(Failure::Refused(format!("the mail server refuses: {}", with_causes(&error))))
        }
        Ok(Err(error)) if error.is_transient() => {
            Err(Failure::Refused(format!("the mail server wants us to wait: {}", with_causes(&error))))
        }
        Ok(Err(error)) => Err(Failure::Unreachable(format!("{}:{}: {}", mail.host, mail.port, with_causes(&error)))),
        Err(_) => Err(Failure::Unreachable(format!("{}:{}: no answer within 30 s", mail.host, mail.port))),
    }
}

async fn transport(mail: &Mail, means: &Means) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
    let tls = match mail.tls {
        MailTls::Wrapper => Tls::Wrapper(parameters(mail).await?),
        MailTls::StartTls => Tls::Required(parameters(mail).await?),
        MailTls::None => {
            // Checked with the settings; a name that has come to mean another machine is not.
            let addresses = tokio::net::lookup_host((mail.host.as_str(), mail.port)).await;
            let addresses: Vec<_> = addresses
                .map_err(|error| Failure::Unreachable(format!("{} is not known: {error}", mail.host)))?
                .collect();
            if !addresses.iter().all(|address| address.ip().is_loopback()) {
                let why = format!("{} is another machine: mail without TLS stays on this one", mail.host);
                return Err(Failure::Unusable(why));
            }
            Tls::None
        }
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        builder = builder.credentials(Credentials::new(user.clone(), means.secret(password)?.expose().to_owned()));
    }
    Ok(builder.build())
}

async fn parameters(mail: &Mail) -> Result<TlsParameters, Failure> {
    let unusable =
        |what: &str, error: &dyn std::error::Error| Failure::Unusable(format!("{what}: {}", with_causes(error)));
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(file) = &mail.ca_file {
        let name = file.display().to_string();
        let pem = tokio::fs::read(file).await.map_err(|error| unusable(&format!("cannot read {name}"), &error))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|error| unusable(&format!("{name} is no PEM"), &error))?;
        // These vouch for it and nobody else does.
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| unusable("TLS cannot be used", &error))
}

fn letter(mail: &Mail, message: &Message, means: &Means) -> Result<Letter, Failure> {
    let mailbox = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| Failure::Unusable(format!("{text} is no mail address: {error}")))
    };
    let from = mailbox(&mail.from)?;
    let domain = from.email.domain().to_owned();
    let name = |id: &str| format!("<{id}@{domain}>");
    let mut builder = Letter::builder()
        .from(from)
        .subject(render::subject(message))
        .date(message.at.into())
        .message_id(Some(name(&message.id)));
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    let references: Vec<_> = message.references.iter().map(|id| name(id)).collect();
    if let Some(first) = references.first() {
        builder = builder.in_reply_to(first.clone()).references(references.join(" "));
    }
    // Nobody's absence note is to answer.
    let by_itself = HeaderName::new_from_ascii_str("Auto-Submitted");
    builder = builder.raw_header(HeaderValue::new(by_itself, "auto-generated".to_owned()));
    let public_url = means.public_url.as_ref();
    let parts = MultiPart::alternative()
        .singlepart(SinglePart::plain(render::text(message, public_url)))
        .singlepart(SinglePart::html(render::page(message, public_url)));
    builder.multipart(parts).map_err(|error| Failure::Unusable(format!("the mail cannot be written: {error}")))
}
