package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// addressBits is how much of an IPv6 address is told: the rest is whatever its owner likes.
const addressBits = 64

// fingerprintBytes of a key's hash tell it from another one. The operator's key is too long to be guessed from them.
const fingerprintBytes = 4

// guard lets nobody in without a key.
func (a *API) guard(c *fiber.Ctx) error {
	// Fiber would unpack the body, to any size.
	if encoding := c.Get(fiber.HeaderContentEncoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
		p := malformed("the body must not be compressed")
		p.Status, p.Title = http.StatusUnsupportedMediaType, http.StatusText(http.StatusUnsupportedMediaType)
		return p
	}
	scheme, key, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if key = strings.TrimSpace(key); key == "" || !strings.EqualFold(scheme, "Bearer") {
		return newProblem(problem.Unauthenticated, "send an API key: Authorization: Bearer <key>")
	}
	current := requestOf(c.UserContext())
	hash := sha256.Sum256([]byte(key))
	if subtle.ConstantTimeCompare(hash[:], a.operatorHash[:]) == 1 {
		current.caller = caller{operator: true}
		a.logins.Authenticated(hex.EncodeToString(hash[:fingerprintBytes]), addressOf(c), current.trace)
		return c.Next()
	}
	identity, err := a.catalogue.Authenticate(c.UserContext(), key)
	if err != nil {
		if refused, ok := errors.AsType[*problem.Error](err); ok && refused.Code == problem.Unauthenticated {
			a.logins.Denied(deniedAs(key), addressOf(c), current.trace)
		}
		return err
	}
	current.caller = caller{customer: identity.Customer, keyID: identity.KeyID}
	return c.Next()
}

// deniedAs tells whose key somebody has tried to guess, by its form.
func deniedAs(key string) string {
	if strings.HasPrefix(key, catalogue.KeyPrefix) {
		return event.ActionKeyDenied
	}
	return event.ActionOperatorDenied
}

// addressOf is where a request comes from: the address of the connection, for what a header says of it can be made up.
func addressOf(c *fiber.Ctx) string {
	address, ok := netip.AddrFromSlice(c.Context().RemoteIP())
	if !ok {
		return "unknown"
	}
	if address = address.Unmap(); address.Is4() {
		return address.String()
	}
	network, err := address.Prefix(addressBits)
	if err != nil {
		return "unknown"
	}
	return network.String()
}
