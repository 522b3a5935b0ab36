use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::*;

fn problems(text: &str) -> Vec<(usize, String)> {
    let problems = parse(text).unwrap_err();
    problems
        .into_iter()
        .map(|problem| (problem.line, problem.to_string()))
        .collect()
}

#[test]
fn the_recipe_of_qemus_documentation() {
    let text = "\
country = GB
state = London
locality = City Of London
organization = Name of your organization
cn = hostNNN.foo.example.com
dns_name = hostNNN
dns_name = hostNNN.foo.example.com
ip_address = 10.0.1.87
ip_address = 2620:0:cafe::87
tls_www_server
tls_www_client
encryption_key
signing_key
";
    let Contents { params, validity } = parse(text).unwrap();
    assert_eq!(validity, None);
    assert_eq!(params.distinguished_name.iter().count(), 5);
    assert_eq!(params.subject_alt_names.len(), 4);
    assert!(
        params
            .subject_alt_names
            .contains(&SanType::IpAddress("2620:0:cafe::87".parse().unwrap()))
    );
    assert_eq!(
        params.extended_key_usages,
        [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth
        ]
    );
    assert_eq!(
        params.key_usages,
        [
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::DigitalSignature
        ]
    );
    assert_eq!(params.is_ca, IsCa::ExplicitNoCa);
}

#[test]
fn separators_quotes_and_comments_are_as_certtool_has_them() {
    for line in [
        "cn = a host",
        "cn=a host",
        "cn: a host",
        "cn a host",
        "  cn\t=\ta host  ",
        "cn = \"a host\"",
        "cn = 'a host'",
        "# cn = x\n\ncn = \"a \\host\"",
    ] {
        let params = parse(line).unwrap().params;
        let values: Vec<_> = params
            .distinguished_name
            .iter()
            .map(|(_, value)| value.clone())
            .collect();
        assert_eq!(
            values,
            [rcgen::DnValue::PrintableString("a host".try_into().unwrap())],
            "{line}"
        );
    }
    // certtool takes what follows for part of the value, and so do we.
    assert!(
        problems("dns_name = host # comment")[0]
            .1
            .contains("host # comment")
    );
    assert!(problems("cn = \"a host")[0].1.contains("closing"));
    assert!(problems("cn = \"a\" host")[0].1.contains("'host' stands behind"));
}

#[test]
fn every_problem_is_told_with_its_line() {
    let problems = problems(
        "cn = x\ntls_feature = 5\n\ncommon_name = y\npolicy1 = 1.2.3\nca = no\nip_address = host\nserial = 12z\ncountry = Germany\ncn = again\n",
    );
    let lines: Vec<_> = problems.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 8, 9, 10], "{problems:?}");
    for (index, text) in [
        "line 2: tls_feature: certtool knows this option, but",
        "line 4: common_name: certtool's templates have no such option",
        "line 5: policy1: ",
        "line 6: ca: it is a flag",
        "'host' is not an IP address",
        "'12z' is not a serial number",
        "two letters",
        "given before",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(problems[index].1.contains(text), "{}", problems[index].1);
    }
}

#[test]
fn every_option_of_certtools_manual_is_known_one_way_or_the_other() {
    // From the example of certtool(1).
    let manual = "organization unit locality state country cn uid dc dn_oid pkcs9_email dn serial expiration_days \
                  activation_date expiration_date dns_name other_name other_name_utf8 other_name_octet xmpp_name \
                  krb5_principal uri ip_address email tls_feature challenge_password password crl_dist_points ca \
                  subject_unique_id issuer_unique_id signing_key encryption_key cert_signing_key crl_signing_key \
                  key_agreement data_encipherment non_repudiation tls_www_client tls_www_server code_signing_key \
                  ocsp_signing_key time_stamping_key email_protection_key ipsec_ike_key key_purpose_oid add_extension \
                  add_critical_extension honor_crq_extensions honor_crq_ext path_len ocsp_uri ca_issuers_uri policy1 \
                  policy1_txt policy1_url inhibit_anypolicy_skip_certs nc_permit_dns nc_exclude_dns nc_permit_email \
                  nc_exclude_email nc_permit_ip nc_exclude_ip proxy_policy_language crl_next_update crl_number \
                  crl_this_update_date crl_next_update_date crl_revocation_date";
    for option in manual.split_whitespace() {
        for line in [option.to_owned(), format!("{option} = 1")] {
            if let Err(problems) = parse(&line) {
                assert!(!problems[0].what.contains("no such option"), "{line}");
            }
        }
    }
}

#[test]
fn numbers_and_dates() {
    let serial = |text: &str| {
        parse(&format!("serial = {text}"))
            .unwrap()
            .params
            .serial_number
            .unwrap()
            .to_bytes()
    };
    assert_eq!(serial("007"), [7]);
    assert_eq!(serial("0x07ab"), [7, 0xab]);
    assert_eq!(serial("256"), [1, 0]);
    for wrong in ["0", "-1", "0x", "0xg", &format!("0x{}", "1".repeat(40)), "0x+1"] {
        assert_eq!(problems(&format!("serial = {wrong}")).len(), 1, "{wrong}");
    }
    let validity = |text: &str| parse(text).unwrap().validity;
    assert_eq!(validity("expiration_days = 700"), Some(Validity::Days(700)));
    assert_eq!(
        validity("expiration_days = -1"),
        Some(Validity::Until(time::macros::datetime!(9999-12-31 23:59:59 UTC)))
    );
    assert_eq!(
        validity("activation_date = \"2004-02-29 16:21:42\"\nexpiration_date = \"2035-02-28\""),
        Some(Validity::Between {
            not_before: time::macros::datetime!(2004-02-29 16:21:42 UTC),
            not_after: time::macros::datetime!(2035-02-28 0:00 UTC),
        })
    );
    for wrong in [
        "expiration_days = 0",
        "expiration_days = soon",
        "activation_date = 2004-02-30",
        "path_len = 256",
    ] {
        assert_eq!(problems(wrong).len(), 1, "{wrong}");
    }
    assert_eq!(
        problems("expiration_days = 3\nexpiration_date = 2035-02-28")[0].0,
        2
    );
    assert_eq!(problems("path_len = 1\npath_len = 1")[0].0, 2);
}

#[test]
fn object_identifiers_that_no_encoder_can_write_are_refused() {
    assert_eq!(
        parse("key_purpose_oid = 2.5.29.37.0")
            .unwrap()
            .params
            .extended_key_usages
            .len(),
        1
    );
    for wrong in [
        "1",
        "3.1",
        "1.40",
        "1..2",
        "1.2.99999999999999999999",
        "a.b",
        ".",
        "0.99",
    ] {
        for line in [
            format!("key_purpose_oid = {wrong}"),
            format!("dn_oid = {wrong} text"),
        ] {
            assert_eq!(problems(&line).len(), 1, "{line}");
        }
    }
    assert_eq!(problems("dn_oid = 2.5.4.12").len(), 1);
}

#[test]
fn constraints() {
    let params =
        parse("ca\nnc_permit_dns = example.com\nnc_exclude_ip = 192.168.5.0/24\nnc_permit_email = a@b\n")
            .unwrap()
            .params;
    let constraints = params.name_constraints.unwrap();
    assert_eq!(
        (
            constraints.permitted_subtrees.len(),
            constraints.excluded_subtrees.len()
        ),
        (2, 1)
    );
    for wrong in ["192.168.5.0", "192.168.5.0/33", "::/129", "x/1"] {
        assert_eq!(problems(&format!("nc_permit_ip = {wrong}")).len(), 1, "{wrong}");
    }
}
