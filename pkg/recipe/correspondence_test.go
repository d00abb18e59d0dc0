package recipe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCorrespondence(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - {id: plain, uses: correspondence.email, with: {to: "${input.a}", subject: Hello, text: "${input.b}"}}
  - id: full
    uses: correspondence.email
    with:
      to: [ada@example.com, "Bob <bob@example.com>"]
      cc: carl@example.com
      bcc: ["${input.a}"]
      reply_to: "${input.a}"
      from: hunter@leads.example
      from_name: The hunter
      subject: "Leads for ${input.a}"
      html: <p>Hello</p>
      attachments: [{name: a.csv, content: "${input.a}", content_type: text/csv}, {file: {file: f1}}, {file: "${input.c}", name: b.pdf}]
      server: {host: smtp.example.com, port: 465, tls: implicit, username: ada, password: "${secrets.mail}"}
  - {id: sms, uses: correspondence.sms, with: {to: "+15005550006", text: "${input.b}"}}
  - id: own
    uses: correspondence.sms
    with: {to: "${input.a}", text: Hi, from: MG0123456789abcdef0123456789abcdef, account_sid: AC0, auth_token: "${secrets.twilio}", base_url: "https://sms.example"}
  - {id: hook, uses: correspondence.webhook, with: {url: "${input.a}/hook", type: lead.found, payload: {a: "${input.b}"}, secret: "${secrets.key}"}}`))
	require.NoError(t, err)
	for _, id := range []string{"plain", "full", "sms", "own", "hook"} {
		assert.True(t, r.Step(id).Effect(), id)
	}
	assert.Equal(t, []string{"mail"}, r.Step("full").SecretsUsed)
}

func TestCorrespondenceProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	const mail = "to: ada@example.com, subject: Hi, "
	for with, kind := range map[string]string{
		`subject: Hi, text: x`:                                                       "email",
		`to: ada@example.com, text: x`:                                               "email",
		`to: ada@example.com, subject: Hi`:                                           "email",
		`to: [], subject: Hi, text: x`:                                               "email",
		`to: "ada@example.com\n", subject: Hi, text: x`:                              "email",
		`to: ada@example.com, subject: "Hi\r\nBcc: eve@x", text: x`:                  "email",
		mail + `text: x, from: hunter@example.com`:                                   "email",
		mail + `text: x, server: {host: smtp.example.com}`:                           "email",
		mail + `text: x, from: a@b, server: {port: 25}`:                              "email",
		mail + `text: x, from: a@b, server: {host: "a b"}`:                           "email",
		mail + `text: x, from: a@b, server: {host: a, username: ada}`:                "email",
		mail + `text: x, from: a@b, server: {host: a, tls: maybe}`:                   "email",
		mail + `text: x, attachments: [{name: a}]`:                                   "email",
		mail + `text: x, attachments: [{content: a}]`:                                "email",
		mail + `text: x, attachments: [{file: x}]`:                                   "email",
		mail + `text: x, attachments: [{name: a, content: b, file: {file: c}}]`:      "email",
		mail + `text: x, attachments: [{name: a, content: b, content_type: x}]`:      "email",
		mail + `text: x, body: y`:                                                    "email",
		`to: "5005550006", text: x`:                                                  "sms",
		`to: "+15005550006"`:                                                         "sms",
		`to: "+15005550006", text: ""`:                                               "sms",
		`to: "+15005550006", text: x, from: "+15005550001"`:                          "sms",
		`to: "+15005550006", text: x, base_url: https://x.example`:                   "sms",
		`to: "+15005550006", text: x, account_sid: AC0, from: "+15005550001"`:        "sms",
		`to: "+15005550006", text: x, account_sid: AC0, auth_token: x`:               "sms",
		`url: https://example.com, payload: {}`:                                      "webhook",
		`url: ftp://example.com, payload: {}, secret: "${secrets.x}"`:                "webhook",
		`url: https://example.com, payload: {}, secret: abc`:                         "webhook",
		`url: https://example.com, payload: {}, secret: "${secrets.x}", type: "a b"`: "webhook",
	} {
		_, err := compiler.Load(document(`
steps:
  - {id: a, uses: correspondence.` + kind + `, with: {` + with + `}}`))
		assert.Error(t, err, with)
	}
}
