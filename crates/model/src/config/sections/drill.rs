//! `[instances.<name>.drill]`: how the instance is rehearsed.

use std::time::Duration;

use crate::{
    config::{
        checked::DrillConfig,
        files::FileKind,
        source::{Result, Value},
    },
    size::ByteSize,
    time::Span,
};

/// Odoo's own soft limit for one worker is 2 GiB; PostgreSQL of a sandbox lives well in what is left.
const DEFAULT_MEMORY: ByteSize = ByteSize(2 << 30);
/// A drill that hangs must not hold the host for a night.
const DEFAULT_TIMEOUT: Span = Span(Duration::from_secs(30 * 60));

pub(super) fn read(value: &Value<'_>) -> Result<DrillConfig> {
    let table = value.table()?;
    let postgres_image = table.required(
        "postgres_image",
        "name the image of the instance's PostgreSQL, for example \"postgres:17\"",
        image,
    );
    let odoo_image =
        table.required("odoo_image", "name the image of the instance's Odoo, for example \"odoo:19\"", image);
    let addons = table.optional("addons", |value| value.list_of(|item| item.absolute(FileKind::Directory)));
    let memory = table.optional("memory", |value| value.size("256 MiB", "1024 GiB"));
    let timeout = table.optional("timeout", |value| value.span("1m", "7d"));
    let required = table.optional("required", |value| value.list_of(check_id));
    let checks = table.optional("checks", super::checks::read);
    table.finish();
    Ok(DrillConfig {
        postgres_image: postgres_image?,
        odoo_image: odoo_image?,
        addons: addons?.unwrap_or_default(),
        memory: memory?.unwrap_or(DEFAULT_MEMORY),
        timeout: timeout?.unwrap_or(DEFAULT_TIMEOUT),
        required: required?.unwrap_or_default(),
        checks: checks?.unwrap_or_default(),
    })
}

fn image(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    if text.contains(char::is_whitespace) || text.contains("://") || text.len() > 255 {
        return Err(value
            .place
            .problem("not the name of an image", "write it as `docker images` shows it, for example \"odoo:19\""));
    }
    Ok(text.to_owned())
}

pub(super) fn check_id(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if text.len() <= 100 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(value
        .place
        .problem("not the id of a check", "write ids as a drill's table shows them, for example \"boot.log\""))
}
