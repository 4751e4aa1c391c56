//! Settings of Windows Setup in the tree of an answer file.
//!
//! Owns the mapping of each answer to its component, pass and setting. Only these settings are
//! replaced; all others of an existing answer file stay, and so do its other accounts and cards.

use crate::error::{Result, StepError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::Ipv4Addr;
use template::answers::xml::{Element, Node};
use template::answers::{UNATTEND, WCM};
use template::step::{Answers, Group, Ipv4Config, Nic, SecretName, User};

/// Token of the public key with which all components of Windows are signed.
const TOKEN: &str = "31bf3856ad364e35";
const SHELL_SETUP: &str = "Microsoft-Windows-Shell-Setup";

/// Merges the answers into the tree of an existing file, or into a new tree if `there` is `None`.
pub(super) fn merge(
    there: Option<Element>,
    answers: &Answers,
    secret: &dyn Fn(&SecretName) -> Result<String>,
) -> Result<Element> {
    let mut root = there.unwrap_or_else(|| Element::new("unattend").attribute("xmlns", UNATTEND));
    let arch = answers.architecture.as_str();
    let root = &mut root;
    if let Some(name) = &answers.computer_name {
        component(root, "specialize", SHELL_SETUP, arch).put(Element::text("ComputerName", name));
    }
    for nic in &answers.nics {
        network(root, arch, nic)?;
    }
    if let Some(blob) = &answers.join_blob {
        let blob: String = secret(blob)?
            .chars()
            .filter(|c| c.is_ascii_graphic())
            .collect();
        let account = Element::new("Provisioning").holding(Element::text("AccountData", &blob));
        join(root, arch, account);
    } else if let Some(workgroup) = &answers.workgroup {
        join(root, arch, Element::text("JoinWorkgroup", workgroup));
    }
    for user in &answers.users {
        let account = account(user, secret)?;
        let accounts = component(root, "oobeSystem", SHELL_SETUP, arch)
            .named("UserAccounts")
            .named("LocalAccounts");
        put_by(accounts, account, "Name");
    }
    let welcome = component(root, "oobeSystem", SHELL_SETUP, arch).named("OOBE");
    for (name, value) in [
        ("HideEULAPage", "true"),
        ("HideOEMRegistrationScreen", "true"),
        ("HideWirelessSetupInOOBE", "true"),
        ("ProtectYourPC", "3"),
    ] {
        welcome.put(Element::text(name, value));
    }
    if !answers.users.is_empty() {
        // Only together with an account of ours: somebody has to be able to log in.
        welcome.put(Element::text("HideOnlineAccountScreens", "true"));
        welcome.put(Element::text("HideLocalAccountScreen", "true"));
    }
    if let Some(locale) = &answers.locale {
        let name = "Microsoft-Windows-International-Core";
        let languages = component(root, "oobeSystem", name, arch);
        for setting in ["InputLocale", "SystemLocale", "UILanguage", "UserLocale"] {
            languages.put(Element::text(setting, locale));
        }
    }
    Ok(std::mem::take(root))
}

/// The component of a pass; created if missing.
fn component<'a>(root: &'a mut Element, pass: &str, name: &str, arch: &str) -> &'a mut Element {
    let settings = root.child(
        |element| element.name == "settings" && element.value("pass") == Some(pass),
        Element::new("settings").attribute("pass", pass),
    );
    let new = Element::new("component")
        .attribute("name", name)
        .attribute("processorArchitecture", arch)
        .attribute("publicKeyToken", TOKEN)
        .attribute("language", "neutral")
        .attribute("versionScope", "nonSxS");
    let fits = |element: &Element| {
        let of_arch = element.value("processorArchitecture");
        element.name == "component"
            && element.value("name") == Some(name)
            && of_arch.is_some_and(|there| there.eq_ignore_ascii_case(arch))
    };
    let component = settings.child(fits, new);
    // The prefix is declared on the component, as Windows SIM writes it: entries of lists need it.
    component.set("xmlns:wcm", WCM);
    component
}

/// Sets how the machine joins a domain or workgroup; replaces any earlier setting.
fn join(root: &mut Element, arch: &str, how: Element) {
    let name = "Microsoft-Windows-UnattendedJoin";
    let identification = Element::new("Identification").holding(how);
    component(root, "specialize", name, arch).put(identification);
}

/// Puts an entry into a list: in place of the one with the same `key`, or at the end.
fn put_by(list: &mut Element, new: Element, key: &str) {
    let text_of = |element: &Element| {
        let found = element.elements().find(|child| child.name == key);
        found.map(|child| child.own_text().to_lowercase())
    };
    let wanted = text_of(&new);
    let place = list.children.iter_mut().find(|child| match child {
        Node::Element(element) => element.name == new.name && text_of(element) == wanted,
        _ => false,
    });
    match place {
        Some(place) => *place = Node::Element(new),
        None => list.children.push(Node::Element(new)),
    }
}

/// Settings of a card, identified by its MAC address, in the order that Microsoft's documentation
/// requires.
fn network(root: &mut Element, arch: &str, nic: &Nic) -> Result<()> {
    let identifier = Element::text("Identifier", &identifier(&nic.mac)?);
    if let Ipv4Config::Static {
        address,
        prefix,
        gateway,
    } = &nic.config.ipv4
    {
        let dhcp = Element::new("Ipv4Settings").holding(Element::text("DhcpEnabled", "false"));
        let address = entry("IpAddress", 1, &format!("{address}/{prefix}"));
        let mut interface = Element::added("Interface")
            .holding(dhcp)
            .holding(identifier.clone())
            .holding(Element::new("UnicastIpAddresses").holding(address));
        if let Some(gateway) = gateway {
            let route = Element::added("Route")
                .holding(Element::text("Identifier", "0"))
                .holding(Element::text("NextHopAddress", &gateway.to_string()))
                .holding(Element::text("Prefix", "0.0.0.0/0"));
            interface = interface.holding(Element::new("Routes").holding(route));
        }
        let tcpip = component(root, "specialize", "Microsoft-Windows-TCPIP", arch);
        put_by(tcpip.named("Interfaces"), interface, "Identifier");
    }
    let config = &nic.config;
    if config.dns.is_empty() && config.suffix.is_none() && config.search.is_empty() {
        return Ok(());
    }
    let client = component(root, "specialize", "Microsoft-Windows-DNS-Client", arch);
    if !config.search.is_empty() {
        let mut order = Element::new("DNSSuffixSearchOrder");
        for (number, suffix) in (1..).zip(&config.search) {
            order = order.holding(entry("DomainName", number, suffix));
        }
        client.put(order);
    }
    if config.dns.is_empty() && config.suffix.is_none() {
        return Ok(());
    }
    let mut interface = Element::added("Interface").holding(identifier);
    if let Some(suffix) = &config.suffix {
        interface = interface.holding(Element::text("DNSDomain", suffix));
    }
    if !config.dns.is_empty() {
        interface = interface.holding(servers(&config.dns));
    }
    put_by(client.named("Interfaces"), interface, "Identifier");
    Ok(())
}

fn servers(addresses: &[Ipv4Addr]) -> Element {
    let mut order = Element::new("DNSServerSearchOrder");
    for (number, address) in (1..).zip(addresses) {
        order = order.holding(entry("IpAddress", number, &address.to_string()));
    }
    order
}

/// A numbered entry of a list.
fn entry(name: &str, number: usize, text: &str) -> Element {
    Element::added(name)
        .attribute("wcm:keyValue", &number.to_string())
        .with(Node::Text(text.to_owned()))
}

/// The MAC address `aa:bb:cc:dd:ee:ff` in the spelling of Setup.
fn identifier(mac: &str) -> Result<String> {
    let pairs: Vec<&str> = mac.split([':', '-']).collect();
    let hex = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    match pairs.len() == 6 && pairs.iter().all(hex) {
        true => Ok(pairs.join("-").to_ascii_uppercase()),
        false => Err(StepError::Order(format!("{mac} is no MAC address"))),
    }
}

fn account(user: &User, secret: &dyn Fn(&SecretName) -> Result<String>) -> Result<Element> {
    let Some(password) = &user.password else {
        return Err(StepError::refused(
            format!(
                "the account {} has no password: Windows Setup would make it one that needs none",
                user.name
            ),
            "give it one in the template",
        ));
    };
    let password = Element::new("Password")
        .holding(Element::text("Value", &hidden(&secret(password)?)))
        .holding(Element::text("PlainText", "false"));
    let groups: Vec<&str> = user.groups.iter().map(group).collect();
    let mut account = Element::added("LocalAccount").holding(password);
    if let Some(full_name) = &user.full_name {
        account = account.holding(Element::text("DisplayName", full_name));
    }
    if !groups.is_empty() {
        account = account.holding(Element::text("Group", &groups.join(";")));
    }
    Ok(account.holding(Element::text("Name", &user.name)))
}

/// Name of a local group; Setup knows groups by name alone. These are the English names; for a
/// master whose SAM can be read, the plan gives its own names.
fn group(group: &Group) -> &str {
    match group {
        Group::Administrators => "Administrators",
        Group::Users => "Users",
        Group::PowerUsers => "Power Users",
        Group::RemoteDesktop => "Remote Desktop Users",
        Group::Named(name) => name,
    }
}

/// Base64 of the password and the setting's name in UTF-16: not readable at a glance, but not
/// protected.
fn hidden(password: &str) -> String {
    let text = format!("{password}Password");
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::answers::base;
    use template::answers::xml::{read, write};
    use template::step::NicConfig;

    fn answers() -> Answers {
        Answers {
            architecture: "amd64".into(),
            computer_name: Some("LAB-07".into()),
            workgroup: Some("LAB".into()),
            nics: vec![Nic {
                mac: "00:0c:29:f3:ff:de".into(),
                config: NicConfig {
                    ipv4: Ipv4Config::Static {
                        address: Ipv4Addr::new(10, 20, 0, 57),
                        prefix: 24,
                        gateway: Some(Ipv4Addr::new(10, 20, 0, 1)),
                    },
                    dns: vec![Ipv4Addr::new(10, 20, 0, 2), Ipv4Addr::new(10, 20, 0, 3)],
                    suffix: Some("lab.example".into()),
                    search: vec!["lab.example".into(), "example".into()],
                },
            }],
            users: vec![User {
                name: "labadmin".into(),
                full_name: Some("Lab <1>".into()),
                groups: vec![Group::Administrators, Group::Named("Técnicos".into())],
                password: Some(SecretName("pw".into())),
                on_exists: template::step::OnExists::Update,
            }],
            join_blob: None,
            locale: Some("en-US".into()),
        }
    }

    fn secret(name: &SecretName) -> Result<String> {
        match name.0.as_str() {
            "pw" => Ok("P@ss".into()),
            "blob" => Ok("ARAI\r\nAMzM\0".into()),
            other => Err(StepError::Order(other.into())),
        }
    }

    #[test]
    fn a_new_file_has_every_answer_and_comes_out_the_same_again() {
        let text = write(&merge(None, &answers(), &secret).unwrap());
        let again = merge(Some(read(text.as_bytes()).unwrap()), &answers(), &secret).unwrap();
        assert_eq!(write(&again), text);
        assert_eq!(text, include_str!("answers.golden.xml"));
    }

    #[test]
    fn what_others_answered_stays() {
        let there = r#"<?xml version="1.0" encoding="utf-8"?>
<unattend xmlns="urn:schemas-microsoft-com:unattend">
  <!-- by hand -->
  <settings pass="windowsPE"><component name="X" processorArchitecture="amd64"/></settings>
  <settings pass="specialize">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS">
      <ComputerName>*</ComputerName><ProductKey>AAAAA</ProductKey>
    </component>
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="x86"><ComputerName>old</ComputerName></component>
    <component name="Microsoft-Windows-UnattendedJoin" processorArchitecture="amd64">
      <Identification><JoinDomain>corp</JoinDomain><Credentials><Password>x</Password></Credentials></Identification>
    </component>
  </settings>
  <settings pass="oobeSystem">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="AMD64">
      <UserAccounts><AdministratorPassword><Value>a</Value></AdministratorPassword>
        <LocalAccounts><LocalAccount><Name>LabAdmin</Name><Group>Users</Group></LocalAccount><LocalAccount><Name>other</Name></LocalAccount></LocalAccounts>
      </UserAccounts>
    </component>
  </settings>
</unattend>"#;
        let mut answers = answers();
        answers.join_blob = Some(SecretName("blob".into()));
        let text =
            write(&merge(Some(base(there.as_bytes()).unwrap().0), &answers, &secret).unwrap());
        for kept in [
            "<!-- by hand -->",
            "pass=\"windowsPE\"",
            "<ProductKey>AAAAA</ProductKey>",
            "<ComputerName>old</ComputerName>",
            "<AdministratorPassword>",
            "<Name>other</Name>",
            "<AccountData>ARAIAMzM</AccountData>",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        for gone in [
            "<ComputerName>*<",
            "JoinDomain",
            "Credentials",
            "JoinWorkgroup",
            "<Name>LabAdmin<",
        ] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert_eq!(
            text.matches("<LocalAccount ").count() + text.matches("<LocalAccount>").count(),
            2
        );
        assert_eq!(
            text.matches("name=\"Microsoft-Windows-Shell-Setup\"")
                .count(),
            3
        );
    }

    #[test]
    fn passwords_are_hidden_as_setup_hides_them() {
        // Value that Windows SIM writes for the password "pw".
        assert_eq!(hidden("pw"), "cAB3AFAAYQBzAHMAdwBvAHIAZAA=");
        let mut answers = answers();
        answers.users[0].password = None;
        assert!(
            merge(None, &answers, &secret)
                .unwrap_err()
                .to_string()
                .contains("labadmin has no password")
        );
        answers.users.clear();
        answers.nics[0].mac = "nonsense".into();
        assert!(
            merge(None, &answers, &secret)
                .unwrap_err()
                .to_string()
                .contains("no MAC address")
        );
    }
}
