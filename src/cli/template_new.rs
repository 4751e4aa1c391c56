//! `template new` at a terminal: a question for every choice, in the order of the summary page.
//!
//! Decides nothing: each answer goes to the template's own parser, which reports mistakes, and the
//! question is asked again.

use super::ask;
use super::template_file::checks;
use api::ApiError;
use template::schema::{NetworkMode, Template, parse_with, to_toml};
use terminal::output::Output;

/// A question and the key that its answer sets. An empty answer leaves the key unchanged.
struct Question {
    key: &'static str,
    text: &'static str,
    /// The value of an empty answer, shown in brackets.
    usual: &'static str,
}

const fn question(key: &'static str, text: &'static str, usual: &'static str) -> Question {
    Question { key, text, usual }
}

const FIRST: &[Question] = &[
    question("image", "Master image, path of the .dcimg", "none"),
    question(
        "disk",
        "Disk of each machine (first, largest, smallest, path:P, serial:S)",
        "first",
    ),
    question(
        "partitions",
        "Partitions of the image, for example 1, 3; the others are cleared",
        "all",
    ),
];
const ONTO: &[Question] = &[question(
    "onto",
    "Partition of the disk it goes onto, while everything else there stays",
    "none: the whole disk",
)];
const THEN: &[Question] = &[
    question(
        "grow",
        "Partition that grows into the free space (last, or its number)",
        "none",
    ),
    HOSTNAME,
    question("network.mode", "Addresses (keep, dhcp, static)", "keep"),
];
const HOSTNAME: Question = question(
    "identity.hostname",
    "Names, for example LAB-{nn}",
    "as the image has it",
);
const STATIC: &[Question] = &[
    question(
        "network.range",
        "Addresses to hand out, for example 10.20.0.50-10.20.0.99",
        "",
    ),
    question("network.prefix", "Bits of the network, for example 24", ""),
    question("network.gateway", "Router", "none"),
    question(
        "network.dns",
        "Name servers, for example 10.20.0.2, 10.20.0.3",
        "none",
    ),
];
const SUFFIX: &[Question] = &[question(
    "network.suffix",
    "DNS suffix, for example lab.example",
    "none",
)];
/// The question for networks that are not kept.
const SEARCH: &[Question] = &[question(
    "network.search",
    "DNS suffixes to search, for example lab.example, example",
    "none",
)];
const WORKGROUP: &[Question] = &[question(
    "membership.workgroup",
    "Windows workgroup",
    "as the image has it",
)];
const DOMAIN: Question = question("membership.domain", "Domain to join", "none");
const METHOD: Question = question(
    "membership.method",
    "  where the join blob of each machine comes from (blob: a folder of NAME.blob that djoin made; samba: made by this console)",
    "blob",
);
const BLOBS: &[Question] = &[question(
    "membership.blobs",
    "  the folder, for example blobs/",
    "",
)];
const SAMBA: &[Question] = &[
    question(
        "membership.credential",
        "  USER%PASSWORD that may add machines (ref:NAME of the console's store, env:NAME, file:PATH, ask)",
        "",
    ),
    question(
        "membership.ou",
        "  unit for the accounts, for example OU=Labs,DC=corp,DC=example",
        "the domain's own",
    ),
];
const WINDOWS: &[Question] = &[question(
    "windows.sid",
    "Windows: machine SID (auto: a new one; keep, sysprep, rewrite)",
    "auto",
)];
/// Asked where the template changes a system, which then can report.
const REPORT: Question = question(
    "first_start.report",
    "Each machine reports its first start to this console (true, false)",
    "true",
);
const LAST: &[Question] = &[question(
    "end",
    "When everything is done (shutdown, restart, none)",
    "shutdown",
)];

/// Asks all questions.
///
/// # Errors
/// `Usage` when there is no terminal, or the input ends.
pub(super) fn ask_all(out: &Output) -> Result<Template, ApiError> {
    let mut form = Form {
        out,
        template: Template::default(),
        set: Vec::new(),
    };
    form.ask(FIRST)?;
    if form.template.partitions.len() == 1 {
        form.ask(ONTO)?;
    }
    form.ask(THEN)?;
    if form.answer("network.mode").as_deref() == Some("static") {
        form.ask_together(&[("network.mode".to_owned(), "static".to_owned())], STATIC)?;
    }
    form.ask(SUFFIX)?;
    if form.template.network.mode != NetworkMode::Keep {
        form.ask(SEARCH)?;
    }
    form.ask(WORKGROUP)?;
    if form.template.membership.workgroup.is_none() {
        form.ask_domain()?;
    }
    form.ask(WINDOWS)?;
    form.ask_list(
        "driver",
        "Folder with a Windows driver package (empty: no more)",
        &[
            question(
                "boot_critical",
                "  the machine does not start without it (true, false)",
                "false",
            ),
            question(
                "match",
                "  where it goes (auto: machines with such a device; always)",
                "auto",
            ),
        ],
        "path",
    )?;
    form.ask_list(
        "user",
        "Name of a local account (empty: no more)",
        &[
            question("groups", "  its groups, for example administrators", "none"),
            question(
                "password",
                "  its password (ref:NAME of the console's store, env:NAME, file:PATH, ask)",
                "no login by password",
            ),
        ],
        "name",
    )?;
    form.ask_list(
        "copy",
        "File that goes to every machine (empty: no more)",
        &[
            question(
                "to",
                "  where it lies there, for example C:\\Deploy\\app.msi",
                "",
            ),
            question("execute", "  run it at first boot (true, false)", "false"),
        ],
        "from",
    )?;
    form.ask_list(
        "run",
        "Command that runs at first boot (empty: no more)",
        &[],
        "command",
    )?;
    if form.template.personalises() {
        form.take(&[("first_start.report".to_owned(), "true".to_owned())]);
        form.ask(&[REPORT])?;
    }
    form.ask(LAST)?;
    Ok(form.template)
}

struct Form<'o> {
    out: &'o Output,
    template: Template,
    set: Vec<(String, String)>,
}

impl Form<'_> {
    fn answer(&self, key: &str) -> Option<String> {
        let answers = self.set.iter().rev();
        answers
            .into_iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.clone())
    }

    /// Takes answers that are consistent with the template, or shows their mistakes.
    fn take(&mut self, answers: &[(String, String)]) -> bool {
        match parse_with(&to_toml(&self.template), answers, &checks()) {
            Ok(template) => {
                self.template = template;
                self.set.extend_from_slice(answers);
                true
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    self.out.note(format!("  {mistake}"));
                }
                false
            }
        }
    }

    fn put(&self, prefix: &str, question: &Question) -> Result<Option<(String, String)>, ApiError> {
        let usual = if question.usual.is_empty() {
            String::new()
        } else {
            format!(" [{}]", question.usual)
        };
        let typed = ask::line(self.out, &format!("{}{usual}: ", question.text))?;
        let typed = typed.trim();
        Ok((!typed.is_empty()).then(|| (format!("{prefix}{}", question.key), typed.to_owned())))
    }

    fn ask(&mut self, questions: &[Question]) -> Result<(), ApiError> {
        for question in questions {
            loop {
                match self.put("", question)? {
                    None => break,
                    // The next answers complete it: a static network without a range is invalid.
                    Some((key, value)) if key == "network.mode" && value == "static" => {
                        self.set.push((key, value));
                        break;
                    }
                    Some(answer) => {
                        if self.take(&[answer]) {
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks questions whose answers make sense only together, and with the earlier ones.
    fn ask_together(
        &mut self,
        there: &[(String, String)],
        questions: &[Question],
    ) -> Result<(), ApiError> {
        loop {
            let mut answers = there.to_vec();
            for question in questions {
                answers.extend(self.put("", question)?);
            }
            if self.take(&answers) {
                return Ok(());
            }
        }
    }

    /// Asks for a domain and the details of joining, until they are consistent or no domain is
    /// named.
    fn ask_domain(&mut self) -> Result<(), ApiError> {
        loop {
            let Some(domain) = self.put("", &DOMAIN)? else {
                return Ok(());
            };
            let mut answers = vec![domain];
            if !self.template.identity.names() {
                // A machine joins under its own name.
                answers.extend(self.put("", &HOSTNAME)?);
            }
            let method = self.put("", &METHOD)?;
            let samba = method.as_ref().is_some_and(|(_, word)| word == "samba");
            answers.extend(method);
            for question in if samba { SAMBA } else { BLOBS } {
                answers.extend(self.put("", question)?);
            }
            if self.take(&answers) {
                return Ok(());
            }
        }
    }

    /// Asks for the entries of a list, until an empty answer.
    fn ask_list(
        &mut self,
        list: &str,
        first: &'static str,
        rest: &[Question],
        key: &'static str,
    ) -> Result<(), ApiError> {
        let mut number = 1;
        loop {
            let prefix = format!("{list}.{number}.");
            let Some(head) = self.put(&prefix, &question(key, first, ""))? else {
                return Ok(());
            };
            let mut answers = vec![head];
            for question in rest {
                answers.extend(self.put(&prefix, question)?);
            }
            if self.take(&answers) {
                number += 1;
            }
        }
    }
}
