//! `[evidence]`: how long it is kept, and who stamps the ledger. May be left out.

use url::Url;

use crate::config::{
    checked::{EvidenceConfig, TimestampsConfig},
    files::FileKind,
    source::{Result, Value},
    value::is_url_with_login,
};

pub(super) fn read(value: &Value<'_>) -> Result<EvidenceConfig> {
    let table = value.table()?;
    let retain = table.optional("retain", |value| value.span("1m", "36600d"));
    let timestamps = table.optional("timestamps", stamps);
    table.finish();
    let default = EvidenceConfig::default();
    Ok(EvidenceConfig { retain: retain?.unwrap_or(default.retain), timestamps: timestamps? })
}

fn stamps(value: &Value<'_>) -> Result<TimestampsConfig> {
    let table = value.table()?;
    let url = table.required("url", "name the authority: url = \"http://…\"", authority);
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    table.finish();
    Ok(TimestampsConfig { url: url?, ca_file: ca_file? })
}

fn authority(value: &Value<'_>) -> Result<Url> {
    let text = value.filled()?;
    if is_url_with_login(text) {
        return Err(value.place.problem("holds a user name or password", "use an authority that asks for none"));
    }
    match Url::parse(text) {
        Ok(url) if url.scheme() == "http" && url.host().is_some() => Ok(url),
        _ => {
            let hint = "write it like \"http://timestamp.example.org\": a token is signed, and what is sent for it is a digest";
            Err(value.place.problem("not an http URL", hint))
        }
    }
}
