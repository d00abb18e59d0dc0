package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"unicode/utf16"
)

const maxName = 64

// serveHook takes a webhook.
func (m *mailbox) serveHook(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	body, err := io.ReadAll(r.Body)
	switch {
	case len(name) > maxName:
		writeJSON(w, http.StatusNotFound, map[string]string{"error": fmt.Sprintf("the name of a hook has at most %d bytes", maxName)})
		return
	case err != nil:
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{"error": "the body broke off or is larger than 1 MiB"})
		return
	}
	id, signature := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Signature")
	if id == "" || r.Header.Get("Webhook-Timestamp") == "" {
		signature = ""
	}
	text := bytes.NewBuffer(nil)
	if json.Indent(text, body, "", "  ") != nil {
		text = bytes.NewBuffer(body)
	}
	m.add(message{Kind: kindWebhook, Hook: clip(name), Text: text.String(), MessageID: clip(id), Signature: clip(signature)})
	writeJSON(w, http.StatusOK, map[string]any{"received": true, "notice": mailboxNotice})
}

// serveSMS takes a text message as Twilio does, and refuses what Twilio refuses with Twilio's codes.
func (m *mailbox) serveSMS(w http.ResponseWriter, r *http.Request) {
	sid, token, given := r.BasicAuth()
	err := r.ParseForm()
	to, text := r.PostForm.Get("To"), r.PostForm.Get("Body")
	from := r.PostForm.Get("From") + r.PostForm.Get("MessagingServiceSid")
	switch {
	case !given || token == "" || sid != r.PathValue("sid"):
		refuseSMS(w, http.StatusUnauthorized, 20003, "Authenticate")
	case err != nil || to == "":
		refuseSMS(w, http.StatusBadRequest, 21604, "A 'To' phone number is required.")
	case !isPhoneNumber(to):
		refuseSMS(w, http.StatusBadRequest, 21211, "Invalid 'To' Phone Number")
	case from == "":
		refuseSMS(w, http.StatusBadRequest, 21603, "A 'From' phone number is required.")
	case text == "":
		refuseSMS(w, http.StatusBadRequest, 21602, "Message body is required.")
	case len(utf16.Encode([]rune(text))) > maxSMS:
		refuseSMS(w, http.StatusBadRequest, 21617, "The concatenated message body exceeds the 1600 character limit")
	default:
		digest := sha256.Sum256(fmt.Append(nil, to, from, text, r.Header.Get("Idempotency-Key")))
		id := "SM" + hex.EncodeToString(digest[:16])
		m.add(message{Kind: kindSMS, From: from, To: []string{clip(to)}, Text: text, MessageID: id})
		writeJSON(w, http.StatusCreated, map[string]any{
			"sid": id, "account_sid": sid, "status": "queued", "direction": "outbound-api", "to": to, "from": from, "body": text,
			"num_segments": strconv.Itoa(segments(text)), "num_media": "0", "error_code": nil, "error_message": nil, "notice": mailboxNotice,
		})
	}
}

func refuseSMS(w http.ResponseWriter, status, code int, text string) {
	writeJSON(w, status, map[string]any{
		"code": code, "message": text, "more_info": fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code), "status": status,
	})
}

func isPhoneNumber(text string) bool {
	const shortest, longest = 3, 16
	if len(text) < shortest || len(text) > longest || text[0] != '+' || text[1] == '0' {
		return false
	}
	for _, digit := range text[1:] {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}

const maxSMS = 1600

// segments is about how many pieces a telephone network cuts the text into: ASCII counts as the seven-bit alphabet of GSM, all else as
// UTF-16. A text that does not fit into one loses room in each to the numbering.
func segments(text string) int {
	units := utf16.Encode([]rune(text))
	single, each := 160, 153
	if len(text) != len(units) {
		single, each = 70, 67
	}
	if len(units) <= single {
		return 1
	}
	return (len(units) + each - 1) / each
}
