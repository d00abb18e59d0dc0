// Package harness runs an installation of galley as its users run it, from built binaries: either `galley up`, or NATS, Postgres
// and the four services as processes of their own. Tests, the chaos program and the benchmark talk to it over HTTP and NATS only;
// they look into Postgres to check, never to act.
//
// Every process can be killed with SIGKILL and started again. Whatever happens to the process that uses the harness, kill -9
// included, nothing is left behind: see keeper.
package harness
