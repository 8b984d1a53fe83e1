// Node 18 or later, without packages: XUANKAN_PORTAL=http://... XUANKAN_API_KEY=... node recommend.mjs TITLE ABSTRACT
const portal = process.env.XUANKAN_PORTAL;
const headers = { "Content-Type": "application/json", Authorization: `Bearer ${process.env.XUANKAN_API_KEY ?? ""}` };

export async function recommend(title, abstract, filters = {}) {
  const body = JSON.stringify({ title, abstract, filters, top_k: 5 });
  let answer = await fetch(`${portal}/v1/rankings?wait_s=20`, { method: "POST", headers, body });
  while (answer.status === 202) // not ranked yet: ask again where it will be
    answer = await fetch(new URL(`${answer.headers.get("Location")}?wait_s=20`, portal), { headers });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? found.title); // problem+json says what to do
  return found.journals;
}

if (process.argv[1]?.endsWith("recommend.mjs"))
  for (const { rank, score, journal } of await recommend(...process.argv.slice(2)))
    console.log(rank, score.toFixed(3), journal.title, journal.issns.join(" "));
