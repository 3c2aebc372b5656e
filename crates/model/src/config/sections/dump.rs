//! `[instances.<name>.dump]`: who runs `pg_dump` for logical dumps.

use crate::config::{
    checked::{DumpConfig, DumpProgram},
    files::FileKind,
    source::{Result, Value},
};

pub(super) fn read(value: &Value<'_>) -> Result<DumpConfig> {
    let table = value.table()?;
    let program = table.optional("program", program);
    table.finish();
    Ok(DumpConfig { program: program?.unwrap_or_default() })
}

fn program(value: &Value<'_>) -> Result<DumpProgram> {
    match value.filled()? {
        "auto" => Ok(DumpProgram::Auto),
        "image" => Ok(DumpProgram::Image),
        path if path.starts_with('/') => Ok(DumpProgram::Path(value.path(FileKind::Readable)?)),
        _ => {
            let hint = "use \"auto\", \"image\" (that of drill.postgres_image) or the absolute path of a pg_dump";
            Err(value.place.problem("not a program", hint))
        }
    }
}
