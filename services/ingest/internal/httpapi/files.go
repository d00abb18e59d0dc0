package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

const (
	filesPath = prefix + "/files"

	// maxTransfers are under way in a process at the same time, maxTransfersOf of them of one customer. An upload takes less than 1 MiB
	// of memory, a download up to the size of the file when its caller is slow.
	maxTransfers    = 32
	maxTransfersOf  = 8
	transferTimeout = 2 * time.Minute

	maxFileName      = 200
	contentTypePlain = "application/octet-stream"
)

const filesAway = "files cannot be reached at the moment"

func (a *API) registerFiles(routes huma.API) {
	binary := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	register(a, routes, huma.Operation{
		OperationID: "upload-file", Method: http.MethodPost, Path: filesPath, Tags: []string{"files"},
		Summary: "Upload a file", DefaultStatus: http.StatusCreated,
		Description: "The body is the file, at most 16 MiB, of the type that Content-Type says. The answer is a reference that recipes take as " +
			"input. Files are kept as long as executions can be looked up.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"*/*": binary}},
	}, nil, a.uploadFile)
	register(a, routes, huma.Operation{
		OperationID: "download-file", Method: http.MethodGet, Path: filesPath + "/{file_id}", Tags: []string{"files"},
		Summary: "Download a file", Description: "What was uploaded or what a step has stored.",
		Responses: response(http.StatusOK, "The file", map[string]*huma.MediaType{"*/*": binary}),
	}, nil, a.downloadFile)
}

// File is a reference to a file.
type File struct {
	ID          string `json:"file" doc:"Its id"`
	Name        string `json:"name" doc:"What it is saved as"`
	ContentType string `json:"content_type"`
	Size        int64  `json:"size" doc:"In bytes"`
}

// fileID is the id of a file in a path.
type fileID string

// Schema implements huma.SchemaProvider.
func (fileID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$",
		PatternDescription: "the id of a file: a letter or digit, then up to 199 letters, digits, -, _ and .",
	}
}

type uploadInput struct {
	Scope
	Name        string `query:"name" doc:"What the file is called; its id when absent"`
	ContentType string `header:"Content-Type" hidden:"true"`
	// fiber is the request itself, for a body that is not read into memory.
	fiber *fiber.Ctx
}

// Resolve implements huma.Resolver.
func (i *uploadInput) Resolve(ctx huma.Context) []error {
	i.fiber = humafiber.UnwrapV2(ctx)
	return nil
}

// reference is what the caller says of the file.
func (i *uploadInput) reference() (file.Ref, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return file.Ref{}, err
	}
	ref := file.Ref{ID: id.String(), Name: i.Name, ContentType: contentTypePlain}
	if ref.Name == "" {
		ref.Name = ref.ID
	}
	if len(ref.Name) > maxFileName || strings.ContainsAny(ref.Name, `/\`) || strings.ContainsFunc(ref.Name, isUnprintable) {
		return file.Ref{}, invalid(Place{In: "query", Path: "/name", Message: "must be a name of at most 200 bytes without slashes"})
	}
	if i.ContentType != "" {
		media, parameters, err := mime.ParseMediaType(i.ContentType)
		if ref.ContentType = mime.FormatMediaType(media, parameters); err != nil || ref.ContentType == "" || len(ref.ContentType) > maxFileName {
			return file.Ref{}, invalid(Place{In: "header", Path: "/Content-Type", Message: "must be a media type such as image/png"})
		}
	}
	return ref, nil
}

func isUnprintable(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

type uploadOutput struct {
	Location string `header:"Location"`
	Body     File
}

func (a *API) uploadFile(ctx context.Context, caller *caller, input *uploadInput) (*uploadOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	ref, err := input.reference()
	if err != nil {
		return nil, err
	}
	if input.fiber.Request().Header.ContentLength() > file.MaxBytes {
		return nil, newProblem(problem.PayloadTooLarge, file.ErrTooLarge.Error())
	}
	end, err := a.transfers.begin(customer)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := input.fiber.Context().Conn().SetReadDeadline(a.clock().Add(transferTimeout)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	body := newBodyReader(input.fiber)
	stored, err := a.files.Put(ctx, customer, ref, body)
	switch {
	case errors.Is(err, file.ErrTooLarge):
		return nil, newProblem(problem.PayloadTooLarge, file.ErrTooLarge.Error())
	case body.err != nil:
		return nil, brokenBody(body.err)
	case err != nil:
		return nil, unavailable(filesAway, err)
	}
	// A file that the audit log will not have is told to nobody: without its id it is as good as not there.
	err = a.activities.Record(ctx, activity.Entry{
		Customer: customer, Action: event.ActionFileUploaded, ResourceID: stored.ID, Author: requestOf(ctx).author(),
		After: map[string]any{"name": stored.Name, "content_type": stored.ContentType, "size": stored.Size},
	})
	if err != nil {
		return nil, unavailable(filesAway, err)
	}
	return &uploadOutput{Location: filesPath + "/" + stored.ID, Body: File(stored)}, nil
}

// bodyReader is the body of a request, which may have none, and remembers what it failed with. A connection that is closed in the middle
// of a body is not its end; Fiber's stream does not tell the two apart.
type bodyReader struct {
	stream io.Reader
	// length is what the request says, negative for one that comes in chunks.
	length, read int
	// broken tells whether the other side has closed the connection, and the stream has noticed. The last chunk is known without that.
	broken func() bool
	err    error
}

func newBodyReader(c *fiber.Ctx) *bodyReader {
	reader := &bodyReader{
		stream: c.Request().BodyStream(), length: c.Request().Header.ContentLength(), broken: func() bool { return false },
	}
	if conn, ok := c.Context().Conn().(*lingering); ok {
		reader.broken = conn.ended.Load
	}
	return reader
}

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	if b.stream == nil {
		return 0, io.EOF
	}
	n, err := b.stream.Read(p)
	if b.read += n; errors.Is(err, io.EOF) {
		if b.length >= 0 && b.read >= b.length || b.length < 0 && !b.broken() {
			return n, io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}

type downloadInput struct {
	FileID fileID `path:"file_id"`
	Scope
}

func (a *API) downloadFile(ctx context.Context, caller *caller, input *downloadInput) (*huma.StreamResponse, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	end, err := a.transfers.begin(customer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	content, ref, err := a.files.Open(ctx, customer, string(input.FileID))
	if err != nil {
		cancel()
		end()
		if errors.Is(err, file.ErrNotFound) {
			return nil, newProblem(problem.NotFound, "there is no such file, or not any more")
		}
		return nil, unavailable(filesAway, err)
	}
	sent := &sending{ReadCloser: content, end: sync.OnceFunc(func() {
		cancel()
		end()
	})}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetStatus(http.StatusOK)
		c.SetHeader(fiber.HeaderContentType, ref.ContentType)
		c.SetHeader(fiber.HeaderContentDisposition, attachment(ref.Name))
		// Who does not read the file does not hold its place for ever; the deadline holds for the connection, which ends with it.
		request := humafiber.UnwrapV2(c).Context()
		_ = request.Conn().SetWriteDeadline(a.clock().Add(transferTimeout))
		request.SetConnectionClose()
		request.Response.SetBodyStream(sent, int(ref.Size))
	}}, nil
}

// sending is a file on its way to the caller. Fiber closes it, sent or not.
type sending struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (s *sending) Close() error {
	defer s.end()
	return s.ReadCloser.Close()
}

// attachment is a Content-Disposition (RFC 6266) that makes browsers save the file, whatever it holds.
func attachment(name string) string {
	name = strings.Map(func(r rune) rune {
		if isUnprintable(r) || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	if value := mime.FormatMediaType("attachment", map[string]string{"filename": name}); name != "" && value != "" {
		return value
	}
	return "attachment"
}

// transfers bounds what is under way.
type transfers struct {
	mu    sync.Mutex
	total int
	of    map[string]int
}

func newTransfers() *transfers { return &transfers{of: make(map[string]int)} }

// begin takes a place; whoever gets one calls end.
func (t *transfers) begin(customer string) (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total >= maxTransfers || t.of[customer] >= maxTransfersOf {
		return nil, newProblem(problem.Unavailable, "too many files and exports are under way at the moment")
	}
	t.total++
	t.of[customer]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.total--
		if t.of[customer]--; t.of[customer] == 0 {
			delete(t.of, customer)
		}
	}, nil
}

// isUpload tells the one request whose body is not read into memory.
func isUpload(c *fiber.Ctx) bool {
	return c.Method() == http.MethodPost && c.Path() == filesPath
}

// takeBody reads the body of any other request, up to the limit. Fiber gives bodies as they come, because it can only do that for all
// requests or for none.
func takeBody(c *fiber.Ctx) error {
	stream := newBodyReader(c)
	switch {
	case stream.stream == nil:
		return nil
	case stream.length > maxBody:
		return fiber.ErrRequestEntityTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(stream, maxBody+1))
	switch {
	case err != nil:
		return brokenBody(err)
	case len(body) > maxBody:
		return fiber.ErrRequestEntityTooLarge
	}
	c.Request().SetBodyStream(bytes.NewReader(body), len(body))
	return nil
}

func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fiber.ErrRequestTimeout
	}
	return malformed("the body broke off, or it is not valid HTTP")
}

// leaveBody closes the connection after the answer, for what is left of the body must not be taken for the next request.
func leaveBody(c *fiber.Ctx) {
	c.Context().SetConnectionClose()
	if conn, ok := c.Context().Conn().(*lingering); ok {
		conn.linger.Store(true)
	}
}
