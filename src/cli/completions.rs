//! What bash, zsh and fish need to complete prodex's words, made from the table. Profile names come from prodex itself when
//! they are wanted. From the first word that is codex's on, a shell offers files.
//! Pure. The scripts know the table's words and nothing else: tried in the real shells (`tests/it/completions.rs`).

use super::table::{COMMANDS, Flag, Offers, Spec, children};
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub fn of(name: &str) -> Option<Shell> {
        match name {
            "bash" => Some(Shell::Bash),
            "zsh" => Some(Shell::Zsh),
            "fish" => Some(Shell::Fish),
            _ => None,
        }
    }
}

pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

fn shown() -> impl Iterator<Item = &'static Spec> {
    COMMANDS.iter().filter(|spec| !spec.hidden)
}

fn flags(spec: &'static Spec) -> impl Iterator<Item = &'static Flag> {
    spec.all_flags().filter(|flag| !flag.hidden)
}

/// `-p --profile`.
fn spellings(flag: &Flag) -> impl Iterator<Item = String> {
    flag.short.map(|short| format!("-{short}")).into_iter().chain([format!("--{}", flag.long)])
}

/// What the words after a command may be.
fn offers(spec: &'static Spec) -> Offers {
    spec.arguments.first().map_or(Offers::Nothing, |argument| argument.offers)
}

fn words(path: &[&'static str]) -> Vec<&'static Spec> {
    children(path).filter(|spec| !spec.hidden).collect()
}

/// Where a command's word leads to. After `help` the same words stand as without it.
fn position(spec: &Spec) -> String {
    if spec.path == ["help"] { String::new() } else { spec.path.join(" ") }
}

/// What bash and zsh share: `at` becomes the words of the command, `value` the flag whose value comes next,
/// `codex` is set when what follows is codex's. Reads the array `line`, the words before the one that is completed.
fn walk() -> String {
    let mut text = String::from("  local at='' value='' codex='' word\n  for word in \"${line[@]}\"; do\n");
    text.push_str("    if [[ -n $value ]]; then [[ $word == = ]] || value=''; continue; fi\n");
    text.push_str("    case \"$at/$word\" in\n");
    for spec in shown() {
        let at = spec.path.join(" ");
        for child in words(spec.path) {
            let _ = writeln!(text, "      '{at}/{}') at='{}' ;;", child.path.last().unwrap_or(&""), position(child));
        }
        for flag in flags(spec).filter(|flag| flag.value.is_some()) {
            let patterns: Vec<String> = spellings(flag).map(|spelling| format!("'{at}/{spelling}'")).collect();
            let _ = writeln!(text, "      {}) value='{at}/{}' ;;", patterns.join("|"), flag.long);
        }
        if spec.passthrough {
            let own: Vec<String> =
                flags(spec).flat_map(spellings).map(|spelling| format!("'{at}/{spelling}'")).collect();
            let _ = writeln!(text, "      {}|'{at}/--'*=*) ;;\n      '{at}/'*) codex=1; break ;;", own.join("|"));
        }
    }
    text.push_str("    esac\n  done\n");
    text
}

fn bash() -> String {
    let mut text = String::from("# bash completion for prodex; made by `prodex completions bash`\n_prodex() {\n");
    text.push_str("  local cur=${COMP_WORDS[COMP_CWORD]} line=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n  COMPREPLY=()\n");
    text.push_str(&walk());
    // Bash makes three words of `--profile=NAME`.
    text.push_str("  [[ $cur == = ]] && cur=''\n");
    text.push_str(
        "  if [[ -n $codex ]]; then compopt -o default; return; fi\n  local words='' kind=''\n  case $value in\n",
    );
    for spec in shown() {
        for flag in flags(spec).filter(|flag| flag.offers != Offers::Nothing) {
            let _ = writeln!(text, "    '{}/{}') kind={} ;;", spec.path.join(" "), flag.long, kind(flag.offers));
        }
    }
    text.push_str("    '') case $at in\n");
    for spec in shown() {
        let mut all: Vec<String> =
            words(spec.path).iter().filter_map(|child| child.path.last()).map(|word| (*word).to_owned()).collect();
        let flags: Vec<String> = flags(spec).map(|flag| format!("--{}", flag.long)).collect();
        if offers(spec) == Offers::Shells {
            all.extend(["bash", "zsh", "fish"].map(str::to_owned));
        }
        let kind = match offers(spec) {
            Offers::Profiles | Offers::Files => format!(" kind={}", kind(offers(spec))),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "      '{}') words='{}'{kind}; [[ $cur == -* ]] && words='{}' kind='' ;;",
            spec.path.join(" "),
            all.join(" "),
            flags.join(" ")
        );
    }
    text.push_str(
        "    esac ;;\n  esac\n  case $kind in\n    profiles) words=\"$words $(prodex __profiles 2>/dev/null)\" ;;\n    \
         files) compopt -o default ;;\n    directories) compopt -o dirnames ;;\n  esac\n  \
         COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _prodex prodex\n",
    );
    text
}

fn kind(offers: Offers) -> &'static str {
    match offers {
        Offers::Profiles => "profiles",
        Offers::Files => "files",
        Offers::Directories => "directories",
        Offers::Nothing | Offers::Shells => "''",
    }
}

/// For between single quotes, in a place where a colon ends the word.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''").replace(':', "\\:")
}

fn zsh() -> String {
    let mut text =
        String::from("#compdef prodex\n# zsh completion for prodex; made by `prodex completions zsh`\n_prodex() {\n");
    text.push_str("  local -a line=(\"${(@)words[2,CURRENT-1]}\") entries names\n");
    text.push_str("  if compset -P '--*='; then line+=(\"${words[CURRENT]%%=*}\"); fi\n");
    text.push_str(&walk());
    text.push_str("  if [[ -n $codex ]]; then _files; return; fi\n  case $value in\n");
    for spec in shown() {
        for flag in flags(spec).filter(|flag| flag.value.is_some()) {
            let _ =
                writeln!(text, "    '{}/{}') {}; return ;;", spec.path.join(" "), flag.long, zsh_action(flag.offers));
        }
    }
    text.push_str("  esac\n  if [[ ${words[CURRENT]} == -* ]]; then\n    case $at in\n");
    for spec in shown() {
        let entries: Vec<String> =
            flags(spec).map(|flag| format!("'--{}:{}'", flag.long, quoted(flag.about))).collect();
        let _ = writeln!(text, "      '{}') entries=({}) ;;", spec.path.join(" "), entries.join(" "));
    }
    text.push_str("    esac\n    _describe option entries\n    return\n  fi\n  case $at in\n");
    for spec in shown() {
        let entries: Vec<String> = words(spec.path)
            .iter()
            .map(|child| format!("'{}:{}'", child.path.last().unwrap_or(&""), quoted(child.about)))
            .collect();
        let action = if entries.is_empty() {
            zsh_action(offers(spec)).to_owned()
        } else {
            format!("entries=({}); _describe command entries", entries.join(" "))
        };
        let _ = writeln!(text, "    '{}') {action} ;;", spec.path.join(" "));
    }
    text.push_str(
        "  esac\n}\nif [[ $funcstack[1] == _prodex ]]; then _prodex \"$@\"; else compdef _prodex prodex; fi\n",
    );
    text
}

fn zsh_action(offers: Offers) -> &'static str {
    match offers {
        Offers::Profiles => "names=(${(f)\"$(prodex __profiles 2>/dev/null)\"}); compadd -a names",
        Offers::Files => "_files",
        Offers::Directories => "_files -/",
        Offers::Shells => "compadd bash zsh fish",
        Offers::Nothing => ":",
    }
}

fn fish() -> String {
    let mut text = String::from(
        "# fish completion for prodex; made by `prodex completions fish`\n\
         # Prints the words of the command so far; `codex` when what follows is codex's.\n\
         function __prodex_path\n    set -l path ''\n    set -l value ''\n    for word in (commandline -opc)[2..-1]\n        \
         if test -n \"$value\"\n            set value ''\n            continue\n        end\n        switch \"$path/$word\"\n",
    );
    for spec in shown() {
        let at = spec.path.join(" ");
        for child in words(spec.path) {
            let last = child.path.last().unwrap_or(&"");
            let _ = writeln!(text, "            case '{at}/{last}'\n                set path '{}'", position(child));
        }
        for flag in flags(spec).filter(|flag| flag.value.is_some()) {
            let patterns: Vec<String> = spellings(flag).map(|spelling| format!("'{at}/{spelling}'")).collect();
            let _ = writeln!(text, "            case {}\n                set value 1", patterns.join(" "));
        }
        if spec.passthrough {
            let own = flags(spec).filter(|flag| flag.value.is_none()).flat_map(spellings);
            let own: Vec<String> = own.map(|spelling| format!("'{at}/{spelling}'")).collect();
            let _ = writeln!(
                text,
                "            case {} '{at}/--*=*'\n                true\n            case '{at}/*'\n                echo codex\n                return",
                own.join(" ")
            );
        }
    }
    text.push_str(
        "        end\n    end\n    echo \"$path\"\nend\n\
         function __prodex_at\n    test (__prodex_path) = \"$argv[1]\"\nend\n\
         complete -c prodex -f\n\
         complete -c prodex -n '__prodex_at codex' -F\n",
    );
    for spec in shown() {
        let at = format!("-n '__prodex_at \"{}\"'", spec.path.join(" "));
        for child in words(spec.path) {
            let last = child.path.last().unwrap_or(&"");
            let _ = writeln!(text, "complete -c prodex {at} -a {last} -d '{}'", fish_quoted(child.about));
        }
        match offers(spec) {
            Offers::Profiles => {
                let _ = writeln!(text, "complete -c prodex {at} -a '(prodex __profiles 2>/dev/null)' -d Profile");
            }
            Offers::Shells => {
                let _ = writeln!(text, "complete -c prodex {at} -a 'bash zsh fish'");
            }
            Offers::Files => {
                let _ = writeln!(text, "complete -c prodex {at} -F");
            }
            Offers::Directories | Offers::Nothing => {}
        }
        for flag in flags(spec) {
            let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let value = match (flag.value, flag.offers) {
                (None, _) => "",
                (Some(_), Offers::Profiles) => " -x -a '(prodex __profiles 2>/dev/null)'",
                (Some(_), Offers::Directories) => " -x -a '(__fish_complete_directories)'",
                (Some(_), _) => " -x",
            };
            let _ = writeln!(
                text,
                "complete -c prodex {at}{short} -l {}{value} -d '{}'",
                flag.long,
                fish_quoted(flag.about)
            );
        }
    }
    text
}

fn fish_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shown_word_is_in_each_script_and_no_hidden_one() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for spec in shown() {
                let word = spec.path.last().unwrap_or(&"");
                assert!(script.contains(word), "{shell:?}: {word}");
                for flag in flags(spec) {
                    let written =
                        if shell == Shell::Fish { format!("-l {}", flag.long) } else { format!("--{}", flag.long) };
                    assert!(script.contains(&written), "{shell:?}: {written}");
                }
            }
            assert!(!script.contains("--watch"), "{shell:?}");
        }
        assert_eq!(Shell::of("tcsh"), None);
    }
}
