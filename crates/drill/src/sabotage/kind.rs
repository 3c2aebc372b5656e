//! The kinds of damage, and which checks must fail by each.

use std::{fmt, str::FromStr};

use crate::ladder::{self, Spec};

/// A kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A newer point that a thief signed.
    ForgedPoint,
    /// Another recovery identity than the data is sealed to.
    WrongKey,
    /// A byte of a page.
    FlippedPage,
    /// A page of a table that is all zeros.
    ZeroedPage,
    /// The end of a table's file.
    TruncatedRelation,
    /// A slice of the log.
    MissingWal,
    /// A bit of the log.
    FlippedWal,
    /// A row.
    DeletedRow,
    /// A value of a row.
    ChangedValue,
    /// What an index knows of a row.
    DroppedIndexEntry,
    /// A file of an attachment.
    DeletedAttachment,
    /// The contents of two attachments.
    SwappedAttachments,
    /// The newest files of the filestore.
    StaleFilestore,
    /// The folder of an installed module.
    MissingAddon,
    /// The version of an installed module.
    OlderModule,
}

impl Kind {
    /// Every kind, in the order of the checks that find them.
    pub const ALL: &[Kind] = &[
        Kind::ForgedPoint,
        Kind::WrongKey,
        Kind::FlippedPage,
        Kind::MissingWal,
        Kind::FlippedWal,
        Kind::DroppedIndexEntry,
        Kind::ZeroedPage,
        Kind::TruncatedRelation,
        Kind::DeletedRow,
        Kind::ChangedValue,
        Kind::DeletedAttachment,
        Kind::SwappedAttachments,
        Kind::StaleFilestore,
        Kind::MissingAddon,
        Kind::OlderModule,
    ];

    /// Its name in commands, evidence and documents.
    pub fn word(self) -> &'static str {
        match self {
            Kind::ForgedPoint => "forged-point",
            Kind::WrongKey => "wrong-key",
            Kind::FlippedPage => "flipped-page",
            Kind::ZeroedPage => "zeroed-page",
            Kind::TruncatedRelation => "truncated-relation",
            Kind::MissingWal => "missing-wal",
            Kind::FlippedWal => "flipped-wal",
            Kind::DeletedRow => "deleted-row",
            Kind::ChangedValue => "changed-value",
            Kind::DroppedIndexEntry => "dropped-index-entry",
            Kind::DeletedAttachment => "deleted-attachment",
            Kind::SwappedAttachments => "swapped-attachments",
            Kind::StaleFilestore => "stale-filestore",
            Kind::MissingAddon => "missing-addon",
            Kind::OlderModule => "older-module",
        }
    }

    fn checks(self) -> &'static [Spec] {
        match self {
            Kind::ForgedPoint => &[ladder::SIGNATURE],
            Kind::WrongKey => &[ladder::FETCH],
            Kind::FlippedPage => &[ladder::PAGES],
            Kind::MissingWal | Kind::FlippedWal => &[ladder::REPLAY],
            Kind::DroppedIndexEntry => &[ladder::AMCHECK],
            Kind::ZeroedPage | Kind::TruncatedRelation | Kind::DeletedRow | Kind::ChangedValue => &[ladder::DIGESTS],
            Kind::DeletedAttachment | Kind::SwappedAttachments | Kind::StaleFilestore => &[ladder::ATTACHMENTS],
            // Odoo's own words for it in its log are looked for as well.
            Kind::MissingAddon => &[ladder::MODULES, ladder::LOG],
            Kind::OlderModule => &[ladder::MODULES],
        }
    }

    /// Ids of the checks that must fail, in the order of the ladder. Any other that fails, or one of these that does not,
    /// fails the control.
    pub fn expected(self) -> Vec<String> {
        self.checks().iter().map(|spec| spec.id.to_owned()).collect()
    }

    /// Whether a check that must fail asks Odoo's image or Odoo.
    pub fn needs_odoo(self) -> bool {
        self.rung() >= ladder::IMAGE.rung
    }

    /// The rung at which it must be found.
    pub fn rung(self) -> u8 {
        self.checks().iter().map(|spec| spec.rung).min().unwrap_or_default()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.iter().copied().find(|kind| kind.word() == text);
        found.ok_or_else(|| {
            let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
            format!("\"{text}\" is no kind of damage; write one of: {}", words.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_a_word_each_and_stand_in_the_order_of_the_ladder() {
        for (place, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(kind.word().parse(), Ok(*kind));
            assert!(!kind.expected().is_empty());
            assert_eq!(kind.needs_odoo(), kind.expected().iter().any(|id| id.starts_with("boot.")), "{kind}");
            assert!(place == 0 || Kind::ALL[place - 1].rung() <= kind.rung(), "{kind}");
        }
        assert_eq!(Kind::ALL.len(), 15);
        assert!("all".parse::<Kind>().unwrap_err().contains("deleted-row"));
    }
}
