package email

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// maxAttached is the most that the attachments may have, in bytes.
	maxAttached = 10 << 20
	maxName     = 200
	// contentUnknown is the media type of what is only bytes.
	contentUnknown = "application/octet-stream"
)

// letter is a mail that is about to be written.
type letter struct {
	from        mail.Address
	to, cc, bcc []*mail.Address
	replyTo     *mail.Address
	subject     string
	text, html  *string
	attachments []attachment
	attached    []*gomail.File
}

// messageID is the same for all attempts of a step, so that whoever gets the mail twice can tell.
func messageID(call *component.Call, from string) string {
	digest := sha256.Sum256([]byte(call.Execution.Customer + "/" + call.IdempotencyKey()))
	return hex.EncodeToString(digest[:16]) + "@" + domainOf(from)
}

func domainOf(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	return domain
}

// large tells whether the mail may take much memory: texts are as large as an execution's state at most, stored files are not.
func (l *letter) large() bool {
	return slices.ContainsFunc(l.attachments, func(a attachment) bool { return a.File != nil })
}

// recipients are the addresses, each once.
func (l *letter) recipients() []string {
	var addresses []string
	for _, address := range slices.Concat(l.to, l.cc, l.bcc) {
		if !slices.Contains(addresses, address.Address) {
			addresses = append(addresses, address.Address)
		}
	}
	return addresses
}

// attach reads what is to be attached.
func (c *Component) attach(ctx context.Context, call *component.Call, l *letter) error {
	left := int64(maxAttached)
	for i := range l.attachments {
		a := &l.attachments[i]
		name, contentType, content := a.Name, a.ContentType, []byte(a.Content)
		if a.File == nil && contentType == "" {
			contentType = "text/plain; charset=utf-8"
		}
		if a.File != nil {
			stored, ref, err := c.read(ctx, call, a.File.ID, left)
			if err != nil {
				return err
			}
			content = stored
			if name == "" {
				name = ref.Name
			}
			if contentType == "" {
				contentType = ref.ContentType
			}
		}
		if left -= int64(len(content)); left < 0 {
			return errTooLarge()
		}
		l.attached = append(l.attached, &gomail.File{
			Name: fileName(name), ContentType: mediaType(contentType), Header: make(map[string][]string),
			Writer: func(w io.Writer) (int64, error) {
				n, err := w.Write(content)
				return int64(n), err
			},
		})
	}
	return nil
}

func errTooLarge() error {
	return component.Failure(problem.ComponentError, "the attachments are larger than 10 MiB")
}

// read reads a stored file of the customer, of at most so many bytes.
func (c *Component) read(ctx context.Context, call *component.Call, id string, most int64) ([]byte, file.Ref, error) {
	content, ref, err := c.files.Open(ctx, call.Execution.Customer, id)
	if errors.Is(err, file.ErrNotFound) {
		return nil, ref, component.Failure(problem.FileUnavailable, "a file that is to be attached is not there, or no longer")
	}
	if err != nil {
		return nil, ref, unreadable(ctx)
	}
	defer func() { _ = content.Close() }()
	if ref.Size > most {
		return nil, ref, errTooLarge()
	}
	read, err := io.ReadAll(io.LimitReader(content, most+1))
	if err != nil {
		return nil, ref, unreadable(ctx)
	}
	return read, ref, nil
}

func unreadable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return outbound.Classify(err)
	}
	return component.Retryable(problem.Unavailable, "a file that is to be attached cannot be read at the moment")
}

// fileName is a name for people, also where a stored file has none or a strange one.
func fileName(name string) string {
	name = oneLine(strings.ToValidUTF8(name, "_"))
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName])
	}
	if name == "" {
		return "attachment"
	}
	return name
}

// mediaType is a media type that can go into a header. What a stored file says of itself came from outside. Parts that are mails
// themselves may not be encoded as attachments are.
func mediaType(text string) gomail.ContentType {
	media, parameters, err := mime.ParseMediaType(text)
	if err != nil || !strings.Contains(media, "/") || strings.HasPrefix(media, "multipart/") || strings.HasPrefix(media, "message/") {
		return contentUnknown
	}
	charset := map[string]string{}
	if set := parameters["charset"]; set != "" && len(set) < maxName {
		charset["charset"] = set
	}
	if formatted := mime.FormatMediaType(media, charset); formatted != "" {
		return gomail.ContentType(formatted)
	}
	return contentUnknown
}

// write gives the mail as it is sent.
func (l *letter) write(id string, date time.Time) ([]byte, error) {
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	message.SetMessageIDWithValue(id)
	message.SetDateWithValue(date)
	message.FromMailAddress(&l.from)
	message.ToMailAddress(l.to...)
	if len(l.cc) > 0 {
		message.CcMailAddress(l.cc...)
	}
	if l.replyTo != nil {
		message.ReplyToMailAddress(l.replyTo)
	}
	message.Subject(l.subject)
	switch {
	case l.text == nil:
		message.SetBodyString(gomail.TypeTextHTML, *l.html)
	case l.html == nil:
		message.SetBodyString(gomail.TypeTextPlain, *l.text)
	default:
		message.SetBodyString(gomail.TypeTextPlain, *l.text)
		message.AddAlternativeString(gomail.TypeTextHTML, *l.html)
	}
	message.SetAttachments(l.attached)
	var content bytes.Buffer
	if _, err := message.WriteTo(&content); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	l.attached = nil // the mail has it now
	return content.Bytes(), nil
}
