//! The page that lies on top of the kit: for whoever holds it in their hands and has never seen it.

use std::fmt::Write as _;

use super::{config::Need, manifest::Manifest};

/// Its text.
pub fn text(kit: &Manifest) -> String {
    let mut page = format!(
        "# Lifeboat recovery kit of {tenant}\n\n\
         Made {made} on {host} by {software}. It brings systems back when everything else is gone. It opens nothing by\n\
         itself: the recovery identity and the credentials below are kept elsewhere, on purpose.\n\n\
         ## First\n\n\
         1. Work on a clean machine (Linux, {arch}, glibc {glibc} or newer). Nothing from a machine that may be in strange\n   \
            hands is used.\n\
         2. Copy the kit onto its disk, where files can have modes: `cp -r KIT /root/kit && cd /root/kit`\n\
         3. See that it is whole: `sha256sum -c --quiet SHA256SUMS`, then `chmod +x lifeboat && ./lifeboat kit check .`\n\
         4. Put these files there, each with mode 0600:\n\n",
        tenant = kit.tenant,
        made = kit.made,
        host = kit.host,
        software = kit.software,
        arch = std::env::consts::ARCH,
        glibc = kit.glibc,
    );
    slots(&mut page, kit);
    page.push_str(
        "\n5. Fetch the recovery identity. It lies where it was put when Lifeboat was set up; without it nothing opens.\n\n\
         ## Then\n\n\
         Follow the runbook in `runbooks/` that fits. The shortest way to a whole system:\n\n",
    );
    for instance in &kit.instances {
        let _ = writeln!(
            page,
            "    ./lifeboat --config lifeboat.toml points windows {instance}\n    \
             ./lifeboat --config lifeboat.toml verify {instance} --point latest\n    \
             ./lifeboat --config lifeboat.toml restore {instance} --to /srv/{instance} --identity FILE\n"
        );
    }
    page.push_str("To rehearse first, in a sandbox that touches nothing (it needs Docker and the images below):\n\n");
    for instance in &kit.instances {
        let _ = writeln!(page, "    ./lifeboat --config lifeboat.toml drill {instance} --identity FILE");
    }
    page.push_str(
        "\nA drill signs what it found. Without the old signing key make a new one; what it signs is believed once its\n\
         public key stands in `trusted_keys`:\n\n",
    );
    if let Some(slot) = kit.secrets.iter().find(|slot| slot.needed_for == Need::Evidence) {
        let _ = writeln!(page, "    ./lifeboat key generate signing --out {}\n", slot.file);
    }
    if kit.holds_images {
        page.push_str("The images are in the kit: `docker load -i images.tar`\n\n");
    } else {
        page.push_str("Images, which the kit does not hold:\n\n");
        for image in &kit.images {
            let _ = writeln!(page, "- `{image}`");
        }
        page.push('\n');
    }
    for folder in &kit.folders {
        let _ = writeln!(
            page,
            "**The repository at {} is a folder of {}.** If that machine is gone, so is it: bring a copy of the folder, and\n\
             change `path` in `lifeboat.toml`.\n",
            folder.display(),
            kit.host
        );
    }
    page.push_str(
        "## What is here\n\n\
         - `lifeboat`: the program; `lifeboat.toml`: which systems, which repository, whose signatures are believed\n\
         - `runbooks/`: what to do, step by step; `schedules/`: what the daemon did, for the time after\n\
         - `files/`: certificates; `secrets/`: empty, for the files above\n\
         - `kit.json`, `SHA256SUMS`: what the kit was made from, and that it is whole\n",
    );
    page
}

fn slots(page: &mut String, kit: &Manifest) {
    let of = |need| kit.secrets.iter().filter(move |slot| slot.needed_for == need);
    for slot in of(Need::Recovery) {
        let _ = writeln!(page, "   - `{}`: `{}`, on the lost host {}", slot.file, slot.key, slot.was.display());
    }
    for (key, name) in &kit.variables {
        let _ = writeln!(page, "   - environment variable `{name}`: `{key}`");
    }
    for slot in of(Need::Evidence) {
        let _ = writeln!(page, "   - `{}`: for drills only, and a new key does (below)", slot.file);
    }
    for slot in of(Need::Verification) {
        let _ = writeln!(
            page,
            "   - `{}`: `{}`, to verify what was recovered; without it give the role a new one there (`\\password` in psql)",
            slot.file, slot.key
        );
    }
    let others: Vec<_> = of(Need::Nothing).map(|slot| format!("`{}`", slot.file)).collect();
    if !others.is_empty() {
        let _ = writeln!(page, "\n   Not needed for a recovery: {}", others.join(", "));
    }
    if of(Need::Recovery).next().is_none() && kit.variables.is_empty() {
        page.push_str("   - nothing: the repository needs no credentials\n");
    }
}
