// A client of another OPC UA stack: node opcua_client.mjs ENDPOINT; prints one JSON line. Needs node-opcua-client.
import opcua from "node-opcua-client";

const client = opcua.OPCUAClient.create({ endpointMustExist: false });
await client.connect(process.argv[2]);
const session = await client.createSession();
const told = {};
for (const name of ["Linewatch.Site", "top.Verdict", "top.PartId", "top.Result.ResultId"]) {
  const read = await session.read({ nodeId: `ns=2;s=${name}`, attributeId: opcua.AttributeIds.Value });
  told[name] = read.value.value;
}
const called = await session.call({
  objectId: "ns=2;s=top",
  methodId: "ns=2;s=top.SetThreshold",
  inputArguments: [{ dataType: opcua.DataType.Double, value: 2.5 }],
});
told.called = called.outputArguments.map((argument) => argument.value);
const written = await session.write({
  nodeId: "ns=2;s=top.Verdict",
  attributeId: opcua.AttributeIds.Value,
  value: { value: { dataType: opcua.DataType.String, value: "ok" } },
});
told.written = written.name;
console.log(JSON.stringify(told));
await session.close();
await client.disconnect();
