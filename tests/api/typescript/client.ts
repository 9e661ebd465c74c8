import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Json = "application/json" | "application/problem+json";
type Day = components["schemas"]["TotalDay"];

const client = createClient<paths, Json>({ baseUrl: "http://127.0.0.1:8080" });

export async function comingDays(storeId: string, token: string): Promise<Day[]> {
  const { data, error } = await client.GET("/v1/stores/{store_id}/forecast", {
    params: { path: { store_id: storeId }, query: { max_age_days: 2 } },
    headers: { Authorization: `Bearer ${token}` },
  });
  if (error !== undefined) {
    throw new Error(`${error.type}: ${error.detail ?? error.title}`);
  }
  if (data.stale) {
    console.warn(data.stale_reason);
  }
  return data.days;
}

export async function everyStore(): Promise<string[]> {
  const found: string[] = [];
  let token: string | null = null;
  do {
    const answer: { data?: components["schemas"]["StoreList"] } = await client.GET("/v1/stores", {
      params: { query: token === null ? {} : { page_token: token } },
    });
    found.push(...(answer.data?.stores ?? []).map((store) => store.store_id));
    token = answer.data?.next_page_token ?? null;
  } while (token !== null);
  return found;
}

export async function wape(storeId: string): Promise<number | null> {
  const { data } = await client.GET("/v1/stores/{store_id}/history", {
    params: { path: { store_id: storeId } },
  });
  return data?.summary.wape ?? null;
}
