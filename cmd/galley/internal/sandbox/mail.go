package sandbox

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
)

const (
	maxParts = 100
	maxDepth = 8
)

// readMail reads an e-mail to its end. What is not understood is shown as text; an error is that of the reader.
func readMail(content io.Reader) (message, error) {
	in := message{Kind: kindEmail}
	whole := &headed{reader: content}
	parsed, err := mail.ReadMessage(whole)
	if err != nil {
		in.Text = whole.head.String()
	} else {
		in.Subject, in.From = decodeWords(parsed.Header.Get("Subject")), decodeWords(parsed.Header.Get("From"))
		in.MessageID = clip(parsed.Header.Get("Message-Id"))
		(&mailReader{into: &in}).read(textproto.MIMEHeader(parsed.Header), parsed.Body, 0)
	}
	_, _ = io.Copy(io.Discard, whole)
	if whole.err != nil {
		return message{}, whole.err
	}
	return in, nil
}

// headed is a reader that remembers how it began and what it failed with; io.EOF does not count.
type headed struct {
	reader io.Reader
	head   bytes.Buffer
	err    error
}

// Read implements io.Reader.
func (h *headed) Read(p []byte) (int, error) {
	n, err := h.reader.Read(p)
	h.head.Write(p[:min(n, maxText-h.head.Len())])
	if err != nil && !errors.Is(err, io.EOF) {
		h.err = err
	}
	return n, err
}

// mailReader collects the parts of an e-mail.
type mailReader struct {
	into  *message
	parts int
}

// read reads a part, or all the parts in it.
func (m *mailReader) read(header textproto.MIMEHeader, body io.Reader, depth int) {
	m.parts++
	contentType, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		contentType = "text/plain"
	}
	if strings.HasPrefix(contentType, "multipart/") && parameters["boundary"] != "" && depth < maxDepth {
		parts := multipart.NewReader(body, parameters["boundary"])
		for m.parts < maxParts {
			part, err := parts.NextRawPart()
			if err != nil {
				return
			}
			m.read(part.Header, part, depth+1)
		}
		return
	}
	disposition, file, _ := mime.ParseMediaType(header.Get("Content-Disposition"))
	body = decodeTransfer(header.Get("Content-Transfer-Encoding"), body)
	name := decodeWords(cmp.Or(file["filename"], parameters["name"]))
	switch {
	case disposition == "attachment" || name != "":
		m.attachment(name, contentType, body)
	case contentType == "text/html" && m.into.HTML == "":
		m.into.HTML = readText(body)
	case contentType == "text/plain" && m.into.Text == "":
		m.into.Text = readText(body)
	default:
		m.attachment("", contentType, body)
	}
}

func (m *mailReader) attachment(name, contentType string, body io.Reader) {
	size, _ := io.Copy(io.Discard, body) // broken content counts as far as it goes
	m.into.Attachments = append(m.into.Attachments, attachment{
		Name: clip(cmp.Or(name, "(no name)")), ContentType: clip(contentType), Size: size,
	})
}

func readText(body io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(body, 2*maxText))
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func decodeTransfer(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

// decodeWords decodes the encoded words of a header (RFC 2047), or leaves it as it is.
func decodeWords(text string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(text)
	if err != nil {
		return text
	}
	return decoded
}
