//! What a document is made of.

use lifeboat_runbook::{
    check::{self, Surroundings},
    document::{Document, Section},
};

use crate::{example, parse, with};

/// Sections as an outline: id, line, and what is done.
fn outline(sections: &[Section], depth: usize, lines: &mut Vec<String>) {
    for section in sections {
        let step = section.step.as_ref().map_or("", |step| step.action.word());
        let kind = if section.holds_steps() { step } else { "prose" };
        lines.push(format!("{}{} :{} {kind}", "  ".repeat(depth), section.id, section.at.line));
        outline(&section.sections, depth + 1, lines);
    }
}

fn outlined(document: &Document) -> String {
    let mut lines = vec![document.title.clone()];
    outline(&document.sections, 1, &mut lines);
    lines.join("\n")
}

#[test]
fn the_specifications_example_is_right() {
    let document = parse(&example());
    let findings = check::check(&document, &Surroundings::default());
    assert!(findings.is_empty(), "{findings:#?}");
    insta::assert_snapshot!("outline", outlined(&document));
    insta::assert_debug_snapshot!("head", document.head);
    let restore = document.find("restore").unwrap();
    insta::assert_debug_snapshot!("step", restore.step);
    assert!(example()[restore.text.clone()].starts_with("### 4. Restore\n"), "the section's own text is for people");
}

#[test]
fn headings_make_the_tree() {
    let text = "before\n\n# *Title* `code`\nx\n```toml\n[runbook]\nid='a'\nsummary='b'\n```\n## Group\n#### Deep\n```toml\naction='wait'\nfor='1s'\n```\n\
                ### Less deep\n```text\naction\n```\nUnderlined\n----------\n```TOML title=x\r\naction='wait'\r\nfor='1s'\r\nid='own'\r\n```\r\n\
                > ## quoted\n\n- # listed\n";
    let document = parse(text);
    insta::assert_snapshot!(outlined(&document), @r"
    Title code
      group :10 
        deep :11 wait
        less-deep :16 prose
      own :20 wait
    ");
    assert_eq!(document.warnings, []);
}

/// The documents that were there before there was a format stay what they are: prose.
#[test]
fn prose_is_only_for_reading() {
    for text in [
        "",
        "# T\n\n## Steps\n1. Do this:\n\n       lifeboat verify clinic\n",
        "no heading at all\n",
        "```sh\nls\n```\n",
    ] {
        let document = parse(text);
        let told: Vec<String> = document.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["1:1: warning: has no step: only for reading"], "{text}");
        assert!(document.head.is_none());
    }
}

#[test]
fn the_digest_is_of_the_bytes() {
    let text = with(&[("## A", "action = 'wait'\nfor = '{{p}}'")]);
    let (one, other) = (parse(&text), parse(&format!("{text} ")));
    assert_eq!(one.digest.len(), 64);
    assert_ne!(one.digest, other.digest);
    assert_eq!(one.sections[0].step, other.sections[0].step);
    assert_eq!(parse("").digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/// Every action in its shortest and its longest form is taken.
#[test]
fn every_action_is_read() {
    let blocks = [
        "action='restore'\ninstance='c'\nto='/srv'",
        "action='restore'\ninstance='c'\nto_docker={postgres='a',filestore='b',folder='/c'}\npoint='latest'\nfrom='copy'\nonly=['filestore']\nidentity_env='X'",
        "action='restore'\ninstance='c'\nto='/f'\ndatabase='odoo'\nat='2026-11-21T14:03:10+01:00'",
        "action='restore'\ninstance='c'\nto='/f'\nrestore_point='before'",
        "action='start'\ncontainers=['a','b']",
        "action='start'\nunit='odoo.service'",
        "action='stop'\ncompose='c.yml'\nservices=['odoo']\ngrace='30s'",
        "action='promote'\nhost='h'\nuser='u'\npassword_file='/p'\nport=5433\ntls='require'\nfenced_by='x'",
        "action='promote'\nhost='h'\nuser='u'\nport='{{p}}'\ntls='{{p}}'\nfenced_by='x'",
        "action='sql'\ninstance='c'\ndatabase='d'\nsql='''\nselect $1\n'''\nparameters=['{{p}}']\nequals='{{p}}'",
        "action='sql'\nhost='h'\nuser='u'\ndatabase='d'\nsql='delete from x'\neffect='destroys'\ndone_when='select true'\nat_least=1",
        "action='sql'\ninstance='c'\ndatabase='d'\nsql='select 1'\nrows=1",
        "action='http'\nurl='https://a'\nmethod='POST'\nheaders={'X-A'='b'}\nbearer_file='/b'\nbody='{{p}}'\nstatus=[200,201]\ncontains='ok'\ndone_when='https://b'",
        "action='odoo'\nurl='{{p}}'\ncheck='health'",
        "action='odoo'\nurl='http://o'\ncheck='login'\ndatabase='d'\nuser='u'\npassword_env='P'",
        "action='odoo'\nurl='http://o'\ncheck='modules'\ndatabase='d'\nuser='u'\npassword_file='/p'\nmodules=['account']",
        "action='command'\nrun=['docker','inspect','--format','{{{{.State}}}}','{{p}}']\ndirectory='/'\nenvironment={A='b'}\nenvironment_files={B='/f'}\nexit=3\ncontains='x'\neffect='nothing'",
        "action='command'\nrun=['sh','-c','ls | wc']\ndone_when=['test','-e','/x']\nrepeatable=true",
        "action='dns'\nname='n'\ntype='A'\nvalue='192.0.2.1'\nservers=['s']",
        "action='dns'\nname='n'\ntype='CNAME'\nvalue='m'\nupdate={server='s',key_file='/k',ttl='1m'}",
        "action='webhook'\nurl='https://a'\nmethod='PUT'\nheaders={A='b'}\nbearer_env='B'\nbody='b'\nstatus=202\nrepeatable=true\neffect='destroys'",
        "action='webhook'\nurl_file='/u'",
        "action='kubernetes'\nscale='deployment/odoo'\nreplicas=0\ncontext='c'\nnamespace='n'\nkubeconfig_file='/k'",
        "action='kubernetes'\napply='f.yaml'",
        "action='kubernetes'\nwait_for='deployment/odoo'\ncondition='available'",
        "action='verify'\ninstance='c'\nrungs=['boot','use']\nrestored_by='x'\nurl='http://o'\nuser='u'\npassword_file='/p'",
        "action='notify'\nchannels=['oncall']\nsubject='{{p}} of {{run.id}}'\nmessage='m'",
        "action='approve'\nrole='lead'\nquestion='q'\npeople=2\ncomment=true",
        "action='manual'\nlook_for='a light'\neffect='nothing'",
        "action='wait'\nfor='{{p}}'",
        "action='wait'\nuntil_moment='2026-11-21T14:03:10Z'",
        "action='wait'\nuntil={action='http',url='https://a'}\nevery='2s'\ntimeout='1m'",
        "action='decide'\nquestion='q'\nanswers={yes='continue',no='end'}",
        "action='decide'\ncheck={action='sql',instance='c',database='d',sql='select 1'}\nanswers={passed='continue',failed='end'}",
        "action='runbook'\nrunbook='other'\nwith={a='{{p}}'}",
    ];
    let mut words = std::collections::BTreeSet::new();
    for block in blocks {
        let every = "timeout='1h'\nretries=1\nretry_after='1s'\non_failure='ask'\nonly_when='mode == \"real\"'\nexpected='1m'\nneeds=['dns']\ntouches=[]\nid='x'";
        let every = if block.contains("timeout") { &every[13..] } else { every };
        let role = if block.contains("role") { "" } else { "role='lead'\n" };
        let document = parse(&with(&[("## A", &format!("{role}{every}\n{block}"))]));
        let step = document.find("x").unwrap().step.as_ref().unwrap();
        words.insert(step.action.word());
        let shown = step.action.words(&|template| template.fill(|_| None));
        assert!(!shown.is_empty() && !shown.contains('\n'), "{shown:?}");
    }
    assert_eq!(words.len(), lifeboat_runbook::action::Action::WORDS.len(), "{words:?}");
    let specification = crate::SPECIFICATION;
    for word in lifeboat_runbook::action::Action::WORDS {
        assert!(specification.contains(&format!("`{word}`")), "{word} is not specified");
    }
}
