//go:build linux

package mta

// overridden gives Debian's Postfix a service `slow` that overrides a setting.
func overridden(setting string) string {
	return "postconf -M slow/unix='slow unix - - y - - smtp -o " + setting + "'"
}

// postfixExamined are configurations of Postfix, each a change of what deploy/mailhost/README.md recommends.
var postfixExamined = []examined{
	{name: "as recommended"},

	// settings of main.cf
	{name: "level may", change: []string{"postconf -e smtp_tls_security_level=may"}, want: untrusted,
		says: `fault: smtp_tls_security_level is "may"`, mends: true},
	{name: "level encrypt", change: []string{"postconf -e smtp_tls_security_level=encrypt"}, want: untrusted,
		says: "fault: smtp_tls_security_level", mends: true},
	{name: "no level", change: []string{"postconf -X smtp_tls_security_level"}, want: clear,
		says: `fault: smtp_tls_security_level is ""`, mends: true},
	{name: "level by another setting", change: []string{"postconf -e 'smtp_tls_security_level=$mine' mine=dane"}},
	{name: "dane-only", change: []string{"postconf -e smtp_tls_security_level=dane-only"}},
	{name: "dns_support_level", change: []string{"postconf -X smtp_dns_support_level"}, want: untrusted,
		says: "fault: smtp_dns_support_level", mends: true},
	{name: "host_lookup native", change: []string{"postconf -e smtp_host_lookup=native"}, want: untrusted,
		says: "fault: smtp_host_lookup", mends: true},
	{name: "host_lookup dns, native", change: []string{"postconf -e 'smtp_host_lookup=dns, native'"}},
	{name: "host_lookup native dns", change: []string{"postconf -e 'smtp_host_lookup=native dns'"}},
	{name: "disable_dns_lookups, without effect", change: []string{"postconf -e disable_dns_lookups=yes"}},
	{name: "ignore_mx_lookup_error", change: []string{"postconf -e ignore_mx_lookup_error=yes"}, want: untrusted,
		says: "fault: ignore_mx_lookup_error", mends: true},
	{name: "resolver_options", change: []string{"postconf -e 'smtp_dns_resolver_options=res_dnsrch'"}, want: untrusted,
		says: "fault: smtp_dns_resolver_options", mends: true},
	{name: "digests without sha256", change: []string{"postconf -e tls_dane_digests=sha512"}, want: untrusted,
		says: "fault: tls_dane_digests", mends: true},
	{name: "digests numbered", change: []string{"postconf -e 'tls_dane_digests=SHA512=2,sha256=1'"}},
	{name: "digests without sha512", change: []string{"postconf -e tls_dane_digests=sha256"}, beyond: true,
		says: "warning: tls_dane_digests", mends: true},
	{name: "insecure MX", change: []string{"postconf -e smtp_tls_dane_insecure_mx_policy=may"},
		to: "hosted.plain", want: untrusted,
		says: "warning: smtp_tls_dane_insecure_mx_policy", mends: true},
	{name: "starttls discarded", change: []string{"postconf -e 'smtp_discard_ehlo_keywords=pipelining, STARTTLS'"},
		want: "deferred",
		says: "fault: smtp_discard_ehlo_keywords", mends: true},
	{name: "pipelining discarded", change: []string{"postconf -e smtp_discard_ehlo_keywords=pipelining"}},
	{name: "never EHLO", change: []string{"postconf -e smtp_never_send_ehlo=yes"}, want: "deferred",
		says: "fault: smtp_never_send_ehlo", mends: true},
	{name: "TLSA filtered", change: []string{"postconf -e 'smtp_dns_reply_filter=regexp:{ " +
		"{/[[:space:]]TLSA[[:space:]]/ IGNORE} }'"}, want: "deferred",
		says: "fault: smtp_dns_reply_filter", mends: true},
	{name: "AAAA filtered", change: []string{"postconf -e 'smtp_dns_reply_filter=regexp:{ " +
		"{/[[:space:]]AAAA[[:space:]]/ IGNORE} }'"}},
	{name: "connections used again", change: []string{"postconf -e smtp_tls_connection_reuse=yes",
		"postconf -M tlsproxy/unix='tlsproxy unix - - y - 0 tlsproxy'"}},
	{name: "connections used again without tlsproxy", change: []string{"postconf -e smtp_tls_connection_reuse=yes"},
		want: "deferred",
		says: "fault: smtp_tls_connection_reuse", mends: true},

	// settings of master.cf
	{name: "override of the level", change: []string{"postconf -P smtp/unix/smtp_tls_security_level=may"},
		want: untrusted,
		says: `fault: in master.cf, smtp/unix: smtp_tls_security_level is "may"`, mends: true},
	{name: "override by another setting", change: []string{"postconf -P 'smtp/unix/smtp_tls_security_level=$mine'",
		"postconf -e mine=may"}, want: untrusted,
		says: "fault: in master.cf, smtp/unix: smtp_tls_security_level", mends: true},
	{name: "override mends", change: []string{"postconf -e smtp_tls_security_level=may",
		"postconf -P smtp/unix/smtp_tls_security_level=dane"}},
	{name: "override of DNS", change: []string{"postconf -P smtp/unix/smtp_dns_support_level=enabled"}, want: untrusted,
		says: "fault: in master.cf, smtp/unix: smtp_dns_support_level", mends: true},
	{name: "a service that nothing uses", change: []string{overridden("smtp_tls_security_level=none")}},

	// levels by destination
	{name: "policy inline", change: []string{"postconf -e 'smtp_tls_policy_maps=inline:{ee.dane=may}'"},
		want: untrusted,
		says: "warning: smtp_tls_policy_maps (inline:{ee.dane=may}) has may for ee.dane"},
	{name: "policy inline with blanks", change: []string{"postconf -e 'smtp_tls_policy_maps=inline:{ { ee.dane = " +
		"encrypt ciphers=high }, no-tlsa.dane=dane}, static:dane'"},
		want: untrusted, says: "has encrypt for ee.dane"},
	{name: "policy inline dane", change: []string{"postconf -e 'smtp_tls_policy_maps=inline:{ee.dane=dane-only, { " +
		"no-tlsa.dane = dane } }'"}},
	{name: "policy regexp in braces", change: []string{"postconf -e 'smtp_tls_policy_maps=regexp:{ {/^ee\\.dane$$/ " +
		"may}, {!/ee/ dane} }'"}, want: untrusted,
		says: `has may for /^ee\.dane$/`},
	{name: "policy regexp", change: []string{"printf '# levels\\n\\nif /dane/\\n|^ee/?[.]|i\\n  none\\nendif\\n' " +
		">/etc/postfix/levels",
		"postconf -e smtp_tls_policy_maps=regexp:/etc/postfix/levels"}, want: clear, says: "has none for |^ee/?[.]|"},
	{name: "policy static", change: []string{"postconf -e smtp_tls_policy_maps=static:may"}, want: untrusted,
		says: "has may for *"},
	{name: "policy static in braces", change: []string{"postconf -e 'smtp_tls_policy_maps=static:{may " +
		"protocols=!SSLv3}'"}, want: untrusted, says: "has may for *"},
	{name: "policy static dane", change: []string{"postconf -e smtp_tls_policy_maps=static:dane"}},
	{name: "policy hash", change: []string{"echo ee.dane none >/etc/postfix/levels", "postmap hash:/etc/postfix/levels",
		"postconf -e smtp_tls_policy_maps=proxy:hash:/etc/postfix/levels"}, want: clear, says: "has none for ee.dane"},
	{name: "policy that lists nothing", change: []string{"postconf -e " +
		"'smtp_tls_policy_maps=unionmap:{inline:{ee.dane=may}}'"}, want: untrusted,
		says: "which lists no entries"},
	{name: "policy of the service", change: []string{
		"postconf -P 'smtp/unix/smtp_tls_policy_maps=inline:{ee.dane=may}'"}, want: untrusted,
		says: "has may for ee.dane"},
	{name: "per site NONE", change: []string{"postconf -e 'smtp_tls_per_site=inline:{mx.ee.dane=NONE}'"}, want: clear,
		says: "warning: smtp_tls_per_site (inline:{mx.ee.dane=NONE}) has NONE for mx.ee.dane"},
	{name: "per site MAY", change: []string{"postconf -e 'smtp_tls_per_site=inline:{mx.ee.dane=MAY}'"}},
	{name: "per site not read", change: []string{"postconf -e 'smtp_tls_per_site=inline:{mx.ee.dane=NONE}' " +
		"'smtp_tls_policy_maps=inline:{x.dane=dane}'"}},

	// where mail goes
	{name: "relayhost by name", change: []string{"postconf -e 'relayhost=[mx.no-tlsa.dane]'"}, want: untrusted,
		says: "warning: relayhost sends all mail to [mx.no-tlsa.dane]: DANE protects the way to it alone"},
	{name: "relayhost with DANE", change: []string{"postconf -e 'relayhost=ee.dane'"}, to: "no-tlsa.dane", beyond: true,
		says: "warning: relayhost sends all mail to ee.dane: DANE protects the way to it alone"},
	{name: "relayhost by address", change: []string{"postconf -e 'relayhost=[{A:ee.dane}]:25'"}, want: untrusted,
		says: "fault: relayhost sends all mail to ["},
	{name: "relayhost for senders", change: []string{"postconf -e " +
		"'sender_dependent_relayhost_maps=inline:{sender@localhost=[{A:ee.dane}]}'"}, want: untrusted,
		says: "warning: sender_dependent_relayhost_maps sends sender@localhost to ["},
	{name: "transport for senders", change: []string{overridden("smtp_tls_security_level=may"),
		"postconf -e 'sender_dependent_default_transport_maps=inline:{@localhost=slow}'"}, want: untrusted,
		says: `warning: in master.cf, slow/unix: smtp_tls_security_level is "may": TLSA records are not looked up ` +
			`(for @localhost)`, mends: true},
	{name: "senders who are not meant", change: []string{"postconf -e " +
		"'sender_dependent_relayhost_maps=inline:{sender@localhost=DUNNO}'"}},
	{name: "default_transport", change: []string{overridden("smtp_tls_security_level=may"),
		"postconf -e default_transport=slow"}, want: untrusted,
		says: `fault: in master.cf, slow/unix: smtp_tls_security_level is "may"`, mends: true},
	{name: "default_transport to an address", change: []string{"postconf -e 'default_transport=smtp:[{A:ee.dane}]'"},
		want: untrusted,
		says: "fault: default_transport sends all mail to ["},
	{name: "transport_maps to a service", change: []string{overridden("smtp_tls_security_level=may"),
		"postconf -e 'transport_maps=inline:{ee.dane=slow:}'"},
		want: untrusted, says: `warning: in master.cf, slow/unix: smtp_tls_security_level is "may": TLSA records are ` +
			`not looked up (for ee.dane)`, mends: true},
	{name: "transport_maps to a sound service", change: []string{overridden("smtp_destination_recipient_limit=1"),
		"postconf -e 'transport_maps=inline:{ee.dane=slow:}'"}},
	{name: "transport_maps to a smarthost",
		change: []string{"postconf -e 'transport_maps=inline:{ee.dane=smtp:[mx.no-tlsa.dane]}'"}, want: untrusted,
		says: "warning: transport_maps sends ee.dane to [mx.no-tlsa.dane]: DANE protects the way to it alone"},
	{name: "transport_maps to an address", change: []string{"echo 'ee.dane relay:[{A:ee.dane}]' >/etc/postfix/ways",
		"postmap /etc/postfix/ways",
		"postconf -e transport_maps=hash:/etc/postfix/ways"}, want: untrusted,
		says: "warning: transport_maps sends ee.dane to ["},
	{name: "transport_maps for all", change: []string{"postconf -e 'transport_maps=inline:{*=:[{A:ee.dane}]}'"},
		want: untrusted,
		says: "fault: transport_maps sends all mail to ["},
	{name: "transport_maps by pattern", change: []string{"postconf -e 'transport_maps=regexp:{ {/@ee[.]dane$$/ " +
		"smtp:[mx.no-tlsa.dane]} }'"}, want: untrusted,
		says: "warning: transport_maps sends /@ee[.]dane$/ to [mx.no-tlsa.dane]"},
	{name: "transport_maps to the domain itself",
		change: []string{"postconf -e 'transport_maps=inline:{ee.dane=smtp:ee.dane, localhost=local:, " +
			"x.dane=error:gone}'"}},
	{name: "transport_maps that lists nothing",
		change: []string{"postconf -e 'transport_maps=unionmap:{inline:{ee.dane=smtp:[mx.no-tlsa.dane]}}'"},
		want:   untrusted, says: "transport_maps has unionmap:{inline:{ee.dane=smtp:[mx.no-tlsa.dane]}}, which lists " +
			"no entries"},
	{name: "fallback relay", change: []string{"postconf -e 'smtp_fallback_relay=[mx.no-tlsa.dane]'"},
		to: "mismatch.dane", want: untrusted,
		says: "warning: smtp_fallback_relay is [mx.no-tlsa.dane]", mends: true},
	{name: "no fallback for the service", change: []string{"postconf -e 'smtp_fallback_relay=[mx.no-tlsa.dane]'",
		"postconf -P smtp/unix/smtp_fallback_relay="}},

	// the chroot
	{name: "another resolver in the chroot",
		change: []string{"echo nameserver 127.0.0.99 >/var/spool/postfix/etc/resolv.conf"}, want: "deferred",
		says: "fault: Postfix's copy /var/spool/postfix/etc/resolv.conf names 127.0.0.99", mends: true},
	{name: "other options in the chroot",
		change: []string{"echo nameserver 127.0.0.1 >/var/spool/postfix/etc/resolv.conf"}},
	{name: "another instance", change: second, by: "/etc/postfix-out", want: untrusted,
		says:  `fault: /etc/postfix-out: smtp_tls_security_level is "may"`,
		mends: true, undo: []string{"postfix -c /etc/postfix-out stop >/dev/null 2>&1",
			"postconf -X multi_instance_directories multi_instance_wrapper multi_instance_enable",
			"rm -r /etc/postfix-out /var/spool/postfix-out /var/lib/postfix-out"}},
	{name: "no chroot", change: []string{"postconf -F smtp/unix/chroot=n",
		"echo nameserver 127.0.0.99 >/var/spool/postfix/etc/resolv.conf"}},
}

// second makes and starts a second instance of Postfix, with the recommended settings but another security level.
var second = []string{
	"postmulti -e init && postmulti -I postfix-out -e create",
	"cp -a /var/spool/postfix/etc /var/spool/postfix-out/",
	"postconf -c /etc/postfix-out -e multi_instance_enable=yes master_service_disable=inet " +
		"authorized_submit_users=static:all mydestination= " +
		"myhostname=" + hostname + " inet_interfaces=loopback-only maillog_file=/" + postfixLog +
		" smtp_tls_loglevel=1 smtp_dns_support_level=dnssec " +
		"smtp_tls_security_level=may",
	"touch -d '1 minute ago' /etc/postfix-out/main.cf && postfix -c /etc/postfix-out start >/dev/null 2>&1",
}

// router adds a router before all others, with lines below its driver.
func router(driver string, lines ...string) string {
	text := "relayed:\\n  driver = " + driver +
		"\\n  domains = ! +local_domains\\n  transport = remote_smtp\\n  no_more\\n"
	for _, line := range lines {
		text += "  " + line + "\\n"
	}
	return "sed -i 's|^begin routers$|&\\n\\n" + text + "|' " + eximConfig
}

// eximExamined are configurations of Exim, each a change of what deploy/mailhost/README.md recommends.
var eximExamined = []examined{
	{name: "as recommended"},

	// the main section
	{name: "dns_dnssec_ok 0", change: []string{eximWrite("", "dns_dnssec_ok = 0")}, beyond: true,
		says: "warning: dns_dnssec_ok is 0", mends: true},
	{name: "dns_dnssec_ok -1", change: []string{eximWrite("", "dns_dnssec_ok = -1")}},
	{name: "dns_use_edns0 0", change: []string{eximWrite("", "dns_use_edns0 = 0")}},
	{name: "dns_again_means_nonexist", change: []string{eximWrite("", "dns_again_means_nonexist = *")},
		to: "expired.dane", want: "bounced",
		says: "fault: dns_again_means_nonexist is *"},

	// the router
	{name: "router asks for no DNSSEC", change: []string{eximWrite("dnslookup", `dnssec_request_domains = ""`)},
		want: untrusted,
		says: "fault: router dnslookup has no dnssec_request_domains", mends: true},
	{name: "router asks for some", change: []string{eximWrite("dnslookup",
		"dnssec_request_domains = example.org : *.example.net")}, want: untrusted,
		says: "warning: router dnslookup has dnssec_request_domains = example.org : *.example.net", mends: true},
	{name: "router asks for all but some",
		change: []string{eximWrite("dnslookup", "dnssec_request_domains = !ee.dane : *")}, want: untrusted,
		says: "warning: router dnslookup has dnssec_request_domains", mends: true},
	{name: "router requires", change: []string{eximWrite("dnslookup", `dnssec_request_domains = ""`),
		eximWrite("dnslookup", "dnssec_require_domains = *")}},
	{name: "pass_on_timeout", change: []string{eximWrite("dnslookup", "pass_on_timeout")}, beyond: true,
		says: "warning: router dnslookup has pass_on_timeout", mends: true},

	// the transport
	{name: "no hosts_try_dane", change: []string{eximWrite("remote_smtp", `hosts_try_dane = ""`)}, want: untrusted,
		says: "fault: transport remote_smtp has no hosts_try_dane", mends: true},
	{name: "some hosts_try_dane", change: []string{eximWrite("remote_smtp", "hosts_try_dane = *.example.org")},
		want: untrusted,
		says: "warning: transport remote_smtp has hosts_try_dane = *.example.org", mends: true},
	{name: "hosts_try_dane by networks",
		change: []string{eximWrite("remote_smtp", "hosts_try_dane = <; 0.0.0.0/0 ; ::/0")}},
	{name: "hosts_require_dane", change: []string{eximWrite("remote_smtp", `hosts_try_dane = ""`),
		eximWrite("remote_smtp", "hosts_require_dane = *")}},
	{name: "transport asks for no DNSSEC", change: []string{eximWrite("remote_smtp", `dnssec_request_domains = ""`)}},
	{name: "hosts_avoid_tls", change: []string{eximWrite("remote_smtp", "hosts_avoid_tls = *")}, want: "deferred",
		says: "warning: transport remote_smtp has hosts_avoid_tls = *", mends: true},
	{name: "no verification without DANE", change: []string{eximWrite("remote_smtp", `tls_try_verify_hosts = ""`),
		eximWrite("remote_smtp", `tls_verify_certificates = ""`)}},
	{name: "gethostbyname", change: []string{eximWrite("remote_smtp", "gethostbyname")}},
	{name: "a transport that nothing uses",
		change: []string{eximWrite("remote_smtp_smarthost", `hosts_try_dane = ""`)}},

	// where mail goes
	{name: "smarthost by name", change: []string{router("manualroute", "route_list = * mx.no-tlsa.dane")},
		want: untrusted,
		says: "warning: router relayed sends all mail to mx.no-tlsa.dane: DANE protects the way to it alone"},
	{name: "smarthost with DANE", change: []string{router("manualroute", "route_list = * mx.ee.dane::25 bydns")},
		to: "no-tlsa.dane", beyond: true,
		says: "warning: router relayed sends all mail to mx.ee.dane:25: DANE protects the way to it alone"},
	{name: "smarthost as Debian writes it", change: []string{router("manualroute", "route_list = * mx.ee.dane byname")},
		want: untrusted,
		says: "fault: router relayed sends all mail to mx.ee.dane byname"},
	{name: "smarthost by address", change: []string{router("manualroute", "route_list = * {A:ee.dane}")},
		want: untrusted,
		says: "fault: router relayed sends all mail to 192.0.2.10: an address has no TLSA records"},
	{name: "smarthost by address and port",
		change: []string{router("manualroute", `route_data = "\\"[{A:ee.dane}]::25 : mx.ee.dane\\""`)}, want: untrusted,
		says: "fault: router relayed sends all mail to [192.0.2.10]:25"},
	{name: "smarthost without DNSSEC", change: []string{router("manualroute", "route_list = * mx.ee.dane",
		"dnssec_request_domains =")}, want: untrusted,
		says: "fault: router relayed has no dnssec_request_domains"},
	{name: "smarthost for some", change: []string{router("manualroute",
		"route_list = x.dane 192.0.2.99 ; ee.dane {A:ee.dane}")}, want: untrusted,
		says: "warning: router relayed sends ee.dane to 192.0.2.10"},
	{name: "smarthost by lookup", change: []string{router("manualroute",
		"route_data = ${if eq{$domain}{ee.dane}{ {A:ee.dane} }}")}, want: untrusted,
		says: "warning: router relayed sends all mail to what ${if eq{$domain}{ee.dane}{"},
	{name: "hosts of the transport", change: []string{eximWrite("remote_smtp", "hosts = {A:ee.dane}"),
		eximWrite("remote_smtp", "hosts_override")}, want: untrusted,
		says: "fault: transport remote_smtp sends all mail to 192.0.2.10"},
	{name: "hosts of the transport without DNSSEC", change: []string{eximWrite("remote_smtp", "hosts = mx.ee.dane"),
		eximWrite("remote_smtp", "hosts_override"),
		eximWrite("remote_smtp", `dnssec_request_domains = ""`)}, want: untrusted,
		says: "fault: transport remote_smtp has no dnssec_request_domains"},
	{name: "fallback of the router", change: []string{eximWrite("dnslookup", "fallback_hosts = mx.no-tlsa.dane")},
		to: "mismatch.dane", want: untrusted,
		says: "warning: router dnslookup has fallback_hosts = mx.no-tlsa.dane", mends: true},
	{name: "fallback of the transport", change: []string{eximWrite("remote_smtp", "fallback_hosts = {A:no-tlsa.dane}")},
		to: "mismatch.dane", want: untrusted,
		says: "warning: transport remote_smtp has fallback_hosts = ", mends: true},
}
