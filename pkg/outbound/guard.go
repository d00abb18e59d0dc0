package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// errRefused says that the guard refused the address.
var errRefused = errors.New("the address is not allowed")

// AllowedHosts are the host:port pairs that may be called although the guard against server-side request forgery would refuse
// their address.
type AllowedHosts []string

// Validate joins everything that is wrong.
func (a AllowedHosts) Validate() error {
	var problems []error
	for _, pair := range a {
		host, port, err := net.SplitHostPort(pair)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || host == "" || strings.ContainsAny(host, " /") || number == 0 {
			problems = append(problems, fmt.Errorf("%q is not host:port, such as 127.0.0.1:8001", pair))
		}
	}
	return errors.Join(problems...)
}

// guard opens connections to public addresses, and to what the operator allows. The address is checked after the name was
// resolved, when the socket is about to connect: a name that changes its address in between gets nowhere.
type guard struct {
	allowed map[string]bool
	public  *ssrf.Guardian
	free    net.Dialer
	guarded net.Dialer
}

func newGuard(hosts AllowedHosts) *guard {
	g := &guard{allowed: make(map[string]bool, len(hosts)), public: ssrf.New(ssrf.WithAnyPort())}
	for _, pair := range hosts {
		g.allowed[canonical(pair)] = true
	}
	g.guarded.Control = g.control
	return g
}

// canonical makes equal addresses equal strings.
func canonical(pair string) string {
	if address, err := netip.ParseAddrPort(pair); err == nil {
		return netip.AddrPortFrom(address.Addr().Unmap(), address.Port()).String()
	}
	return strings.ToLower(pair)
}

// dial takes the host and port of the URL. Where the operator allowed that very name, its addresses are the operator's choice.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if g.allowed[canonical(address)] {
		return g.free.DialContext(ctx, network, address)
	}
	return g.guarded.DialContext(ctx, network, address)
}

// control sees the resolved address.
func (g *guard) control(network, address string, conn syscall.RawConn) error {
	if g.allowed[canonical(address)] {
		return nil
	}
	if err := g.public.Safe(network, address, conn); err != nil {
		return errRefused // without the address: it is not for the customer to know
	}
	return nil
}
