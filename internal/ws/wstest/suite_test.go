package wstest

import (
	"testing"
)

func TestFramesOfEveryShape(t *testing.T) { own.framesOfEveryShape(t) }

func TestFramesThatClose(t *testing.T) { own.framesThatClose(t) }

func TestProtocolErrorsThroughFrames(t *testing.T) { own.protocolErrorsThroughFrames(t) }

func TestSubprotocols(t *testing.T) { own.subprotocols(t) }

func TestClientCloses(t *testing.T) { own.clientCloses(t) }

func TestIDsBelongToConnections(t *testing.T) { own.iDsBelongToConnections(t) }

func TestRefuse(t *testing.T) { own.refused(t) }

func TestGraphQLWSClient(t *testing.T) { own.graphQLWSClient(t) }

func TestRollingRestart(t *testing.T) { own.rollingRestart(t) }

func TestCloseCodesInTheDocs(t *testing.T) { own.closeCodesInTheDocs(t) }

func TestLegacyClient(t *testing.T) { own.legacyClient(t) }

func TestClientThatNeverReads(t *testing.T) { own.clientThatNeverReads(t) }

func TestClientThatReadsBytes(t *testing.T) { own.clientThatReadsBytes(t) }

func TestClientThatNeverPongs(t *testing.T) { own.clientThatNeverPongs(t) }

func TestClientThatNeverBegins(t *testing.T) { own.clientThatNeverBegins(t) }

func TestClientThatStopsInTheMiddle(t *testing.T) { own.clientThatStopsInTheMiddle(t) }

func TestClientThatVanishes(t *testing.T) { own.clientThatVanishes(t) }

func TestComingAndGoing(t *testing.T) { own.comingAndGoing(t) }

func TestFloodsHarmNobodyElse(t *testing.T) { own.floodsHarmNobodyElse(t) }
