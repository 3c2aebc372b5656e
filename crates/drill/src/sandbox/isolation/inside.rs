//! What the kernel says inside a container: one program of bash's own words, which prints what it reads and then makes the
//! attempts, one after the other.

use std::{collections::HashMap, time::Duration};

use super::{Claims, LIMIT, attempts::inside_word};
use crate::sandbox::settings;

/// The program. Its first argument is what it says wherever it gets, the others are what it tries. Without a way out it starts one
/// process only, and no attempt waits; one that waits ends the program by its time limit, with no word after it.
const SCRIPT: &str = r#"
export LC_ALL=C
exec 2>&1
words=$1; shift
show() { printf '@%s\n' "$1"; while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$2"; }
show route /proc/net/route
[ -e /proc/net/ipv6_route ] && show route6 /proc/net/ipv6_route
show dev /proc/net/dev
show status /proc/self/status
show mounts /proc/self/mountinfo
show limits /proc/self/limits
printf '@env\n'; compgen -e
printf '@ns\n'; readlink /proc/self/ns/net /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/mnt
interfaces=()
while IFS=': ' read -r name rest; do case "$rest" in *'|'*) ;; *) interfaces+=("$name") ;; esac; done </proc/net/dev
attempt() {
  if exec 3<>"/dev/$1"; then printf '%s' "$words" >&3; exec 3>&-; printf 'OPEN\n'; fi
}
for target; do
  printf '@try %s at %s\n' "$target" "$SECONDS"
  case "$target" in
    */fe80:*) for interface in "${interfaces[@]}"; do attempt "${target%/*}%$interface/${target##*/}"; done ;;
    *) attempt "$target" ;;
  esac
done
printf '@end\n'
"#;

/// An attempt that was ended before it had this long may have been about to answer: the host was slow.
const OWN_LIMIT: Duration = Duration::from_secs(5);

/// What the engine and bash itself set.
const SHELL_VARIABLES: &[&str] = &["HOME", "HOSTNAME", "LC_ALL", "OLDPWD", "PATH", "PWD", "SHLVL", "TERM", "_"];

pub(super) fn script() -> String {
    SCRIPT.replace("OPEN", inside_word::OPEN)
}

/// What was printed, by section, and what was said to each attempt.
#[derive(Debug, Default)]
pub(super) struct Inside {
    sections: HashMap<String, Vec<String>>,
    /// By argument; an attempt that had to wait has an empty text.
    pub attempts: HashMap<String, String>,
    problem: Option<String>,
}

impl Inside {
    pub fn parse(text: &str, code: i64, tail: &str) -> Inside {
        let mut inside = Inside::default();
        let (mut section, mut target, mut begun) = (None, None, None);
        for line in text.lines() {
            if let Some(argument) = line.strip_prefix("@try ") {
                let (argument, at) = argument.split_once(" at ").unwrap_or((argument, ""));
                (target, begun) = (Some(argument.to_owned()), at.parse().ok().map(Duration::from_secs));
                inside.attempts.insert(argument.to_owned(), String::new());
            } else if let Some(name) = line.strip_prefix('@') {
                (section, target) = (Some(name.to_owned()), None);
                inside.sections.insert(name.to_owned(), Vec::new());
            } else if let Some(target) = &target {
                let words = inside.attempts.entry(target.clone()).or_default();
                if !words.is_empty() {
                    words.push_str("; ");
                }
                words.push_str(line);
            } else if let Some(lines) = section.as_ref().and_then(|section| inside.sections.get_mut(section)) {
                lines.push(line.to_owned());
            }
        }
        if !inside.sections.contains_key("end") {
            let waited = begun.is_some_and(|begun| code == 124 && LIMIT.saturating_sub(begun) >= OWN_LIMIT);
            let cut = target.as_ref().and_then(|target| inside.attempts.get_mut(target));
            if let Some(words) = cut.filter(|words| words.is_empty() && !waited) {
                inside_word::CUT.clone_into(words);
            }
            inside.problem = Some(match code {
                124 => "the attempts did not come to their end: one of them had to wait".to_owned(),
                _ => format!("could not be tried from inside: {tail}"),
            });
        }
        inside
    }

    fn lines(&self, section: &str) -> &[String] {
        self.sections.get(section).map_or(&[], Vec::as_slice)
    }

    fn interfaces(&self) -> Vec<&str> {
        let lines = self.lines("dev").iter().filter(|line| !line.contains('|'));
        lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect()
    }

    /// Whether there is nothing but the loopback interface, and no route by anything else.
    pub fn is_alone(&self) -> bool {
        self.interfaces() == ["lo"] && self.routes().is_empty()
    }

    /// Routes by any interface but the loopback. IPv4's table begins with the interface, IPv6's ends with it.
    fn routes(&self) -> Vec<&str> {
        let four = self.lines("route").iter().skip(1).filter_map(|line| line.split_whitespace().next());
        let six = self.lines("route6").iter().filter_map(|line| line.split_whitespace().last());
        four.chain(six).filter(|interface| *interface != "lo").collect()
    }

    fn status(&self, name: &str) -> &str {
        let lines = self.lines("status").iter();
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value.trim())
    }

    /// Whether the root of the file system cannot be written.
    fn is_root_read_only(&self) -> bool {
        let root = self.lines("mounts").iter().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut root = root.filter(|fields| fields.get(4) == Some(&"/"));
        root.next_back()
            .is_some_and(|fields| fields.get(5).is_some_and(|options| options.split(',').any(|one| one == "ro")))
    }

    fn open_files(&self) -> Option<i64> {
        let line = self.lines("limits").iter().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// What the kernel's words mean.
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        if let Some(problem) = &self.problem {
            claims.unknown.push(problem.clone());
        }
        for section in ["route", "dev", "status", "mounts", "limits", "ns"] {
            if self.lines(section).is_empty() {
                claims.unknown.push(format!("the kernel's words on {section} cannot be read from inside"));
                return claims;
            }
        }
        let none = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit == b'0');
        let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let checks = [
            (self.interfaces() == ["lo"], format!("has interfaces {}", self.interfaces().join(", "))),
            (self.routes().is_empty(), format!("has routes by {}", self.routes().join(", "))),
            (
                capabilities.iter().all(|name| none(self.status(name))),
                "has capabilities in the kernel's eyes".to_owned(),
            ),
            (self.status("NoNewPrivs") == "1", "may gain privileges".to_owned()),
            (self.status("Seccomp") == "2", "runs without a seccomp filter".to_owned()),
            (self.is_root_read_only(), "can write its root file system".to_owned()),
            (self.open_files() == Some(settings::NOFILE), "has another limit of open files".to_owned()),
        ];
        claims.leaks.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, leak)| leak));
        claims.leaks.extend(shared_with_us(self.lines("ns")));
        claims.seen = Some(format!(
            "the kernel says inside: loopback interface only, no route, no capability in any set, no new privileges, seccomp filter in \
             force, root file system read-only, {} open files, own network, process, IPC, host name and mount namespaces",
            settings::NOFILE
        ));
        claims
    }

    /// Variables that neither the image nor we have set: where they come from nobody knows, from this host at worst.
    pub fn strange_environment(&self, known: &[String]) -> Vec<String> {
        let is_known = |name: &&String| known.contains(name) || SHELL_VARIABLES.contains(&name.as_str());
        let strange: Vec<&str> = self.lines("env").iter().filter(|name| !is_known(name)).map(String::as_str).collect();
        if strange.is_empty() {
            Vec::new()
        } else {
            vec![format!("has variables of unknown origin: {}", strange.join(", "))]
        }
    }
}

/// Namespaces of this process that the container is in as well.
fn shared_with_us(namespaces: &[String]) -> Vec<String> {
    let ours = |namespace: &&String| {
        let Some((kind, _)) = namespace.split_once(':') else { return false };
        std::fs::read_link(format!("/proc/self/ns/{kind}")).is_ok_and(|ours| ours.as_os_str() == namespace.as_str())
    };
    namespaces.iter().filter(ours).map(|namespace| format!("is in this host's namespace {namespace}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: &str = "@route\nIface\tDestination\tGateway\n@route6\n\
        00000000000000000000000000000001 80 00 00 00 256 1 0 80200001 lo\n@dev\nInter-|   Receive\n face |bytes\n    lo: 0 0\n\
        @status\nCapInh:\t0000\nCapPrm:\t0000\nCapEff:\t0000\nCapBnd:\t0000\nCapAmb:\t0000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        @mounts\n652 485 0:58 / / ro,relatime - overlay overlay rw\n653 652 0:61 / /proc rw - proc proc rw\n\
        @limits\nLimit  Soft Hard Units\nMax open files            16384                16384               files\n\
        @env\nHOME\n@ns\nnet:[1]\npid:[2]\n@try tcp/10.0.0.7/9 at 0\nbash: connect: Network is unreachable\nbash: line 9: x\n\
        @try udp/10.0.0.7/9 at 0\n@end\n";

    fn leaks(text: &str) -> Vec<String> {
        let claims = Inside::parse(text, 0, "").claims();
        assert_eq!(claims.unknown, [] as [String; 0]);
        claims.leaks
    }

    #[test]
    fn a_lonely_container_leaks_nothing() {
        let inside = Inside::parse(ALONE, 0, "");
        assert!(inside.is_alone());
        assert_eq!(inside.strange_environment(&[]), [] as [String; 0]);
        let strange = Inside::parse(&ALONE.replace("@env\n", "@env\nAWS_PROFILE\nPGDATA\n"), 0, "");
        let named = strange.strange_environment(&["PGDATA".to_owned()]);
        assert_eq!(named, ["has variables of unknown origin: AWS_PROFILE"]);
        assert_eq!(leaks(ALONE), [] as [String; 0]);
        assert!(inside.attempts["tcp/10.0.0.7/9"].starts_with("bash: connect: Network is unreachable; "));
        assert_eq!(inside.attempts["udp/10.0.0.7/9"], "");
    }

    #[test]
    fn every_gap_is_named() {
        for (old, new) in [
            ("    lo: 0 0\n", "    lo: 0 0\n  eth0: 0 0\n"),
            ("Gateway\n", "Gateway\neth0\t00000000\t010011AC\n"),
            ("80200001 lo", "80200001 eth0"),
            ("CapBnd:\t0000", "CapBnd:\t0400"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("/ / ro,relatime", "/ / rw,relatime"),
            ("16384                16384", "1048576 1048576"),
        ] {
            assert_eq!(leaks(&ALONE.replace(old, new)).len(), 1, "{new}");
        }
        let ours = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!(leaks(&ALONE.replace("pid:[2]", &ours)).len(), 1);
    }

    #[test]
    fn what_did_not_come_to_its_end_proves_nothing() {
        let cut = ALONE.strip_suffix("@end\n").unwrap();
        assert_eq!(Inside::parse(cut, 124, "").claims().unknown.len(), 1);
        assert!(!Inside::parse("", 127, "bash: not found").claims().unknown.is_empty());
    }

    #[test]
    fn an_attempt_that_was_cut_off_did_not_wait() {
        let said = |at: u64, code| {
            let text = format!("@try tcp/10.0.0.7/9 at {at}\n");
            Inside::parse(&text, code, "").attempts["tcp/10.0.0.7/9"].clone()
        };
        assert_eq!(said(1, 124), "", "it had long enough");
        assert_eq!(said(LIMIT.as_secs() - 1, 124), inside_word::CUT, "what came before it was slow");
        assert_eq!(said(1, 137), inside_word::CUT, "it was ended by something else");
    }
}
