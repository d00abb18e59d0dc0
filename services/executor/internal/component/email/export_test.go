package email

import (
	"crypto/x509"
	"net"
)

// Trust makes the component trust certificates of a test.
func (c *Component) Trust(roots *x509.CertPool) { c.roots = roots }

// IsPrivate is isPrivate.
func IsPrivate(address net.Addr) bool { return isPrivate(address) }
