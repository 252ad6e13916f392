// Opens a comparison report in a headless Chromium and checks what only a browser can: that it loads fast and silently,
// answers to the keyboard, prints, and is readable without JavaScript.
//
//   cargo test -p convmae-tests --test e2e report::     # writes target/tmp/report_of_20_runs.html
//   node tests/browser/report.mjs [REPORT.html [FOLDER_FOR_SCREENSHOTS]]
//
// CHROMIUM names the browser, /usr/bin/chromium if not set. No packages are needed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [report = "target/tmp/report_of_20_runs.html", screenshots] = process.argv.slice(2);
const page = pathToFileURL(resolve(report)).href;

// Two frames: what was asked for is on the screen.
const FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";

// The browser, spoken to over pipes: messages end with a zero byte.
class Browser {
  #nextId = 1;
  #waiting = new Map();
  #pending = "";
  #listeners = [];

  constructor() {
    this.profile = mkdtempSync(join(tmpdir(), "convmae-browser-"));
    this.process = spawn(
      process.env.CHROMIUM ?? "/usr/bin/chromium",
      ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${this.profile}`],
      { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
    );
    this.process.stdio[4].setEncoding("utf8").on("data", (text) => this.#receive(text));
  }

  #receive(text) {
    const messages = (this.#pending + text).split("\0");
    this.#pending = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      const { resolve, reject } = this.#waiting.get(message.id) ?? {};
      if (message.error) reject?.(new Error(message.error.message));
      else if (resolve) resolve(message.result);
      else this.#listeners.forEach((listen) => listen(message));
    }
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#nextId++;
    this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  listen(listener) {
    this.#listeners.push(listener);
  }

  async tab() {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    return new Tab(this, sessionId);
  }

  async close() {
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    await this.send("Browser.close");
    await gone;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Tab {
  constructor(browser, sessionId) {
    Object.assign(this, { browser, sessionId, complaints: [], requests: [], loaded: null });
    browser.listen((message) => message.sessionId === sessionId && this.#hear(message));
  }

  #hear({ method, params }) {
    if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.exception?.description);
    if (method === "Log.entryAdded") this.complaints.push(params.entry.text);
    if (method === "Runtime.consoleAPICalled") this.complaints.push(JSON.stringify(params.args));
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Page.loadEventFired") this.loaded?.();
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  async open(url, { script = true, scheme = "light", width = 1440, height = 1000 } = {}) {
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await this.send(`${domain}.enable`);
    await this.send("Emulation.setScriptExecutionDisabled", { value: !script });
    await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    const loaded = new Promise((resolve) => (this.loaded = resolve));
    const start = performance.now();
    await this.send("Page.navigate", { url });
    await loaded;
    if (script) await this.evaluate(FRAMES);
    return performance.now() - start;
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async press(key, times = 1) {
    const codes = { Tab: 9, Enter: 13, " ": 32, ArrowRight: 39, ArrowLeft: 37, Escape: 27 };
    const text = { Enter: "\r", " ": " " }[key];
    for (let i = 0; i < times; i++) {
      const event = { key, code: key === " " ? "Space" : key, windowsVirtualKeyCode: codes[key], text };
      await this.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
      await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
    }
    await this.evaluate(FRAMES);
  }

  async shoot(name) {
    if (!screenshots) return;
    const { cssContentSize } = await this.send("Page.getLayoutMetrics");
    const clip = { x: 0, y: 0, width: cssContentSize.width, height: Math.min(cssContentSize.height, 6000), scale: 1 };
    const { data } = await this.send("Page.captureScreenshot", { clip, captureBeyondViewport: true });
    writeFileSync(join(screenshots, name), Buffer.from(data, "base64"));
  }
}

const facts = {};
const browser = new Browser();
try {
  const size = statSync(report).size;
  facts.megabytes = (size / 1e6).toFixed(2);
  assert.ok(size < 5e6, "a page below 5 MB");

  const tab = await browser.tab();
  const loads = [];
  for (let i = 0; i < 3; i++) loads.push(await tab.open(page));
  facts["milliseconds to open"] = loads.map(Math.round).join(", ");
  assert.ok(Math.min(...loads) < 2000, "opens in 2 s");
  const runs = await tab.evaluate("document.querySelectorAll('.legend li').length");
  const charts = await tab.evaluate("document.querySelectorAll('figure svg.plot').length");
  Object.assign(facts, { runs, charts });

  const drawn = "document.querySelector('figure[data-chart] svg.plot').querySelectorAll('path.line:not(.dot)').length";
  await tab.evaluate("document.querySelector('figure[data-chart]').scrollIntoView()");
  // Charts are drawn when they come into sight.
  for (let i = 0; i < 50 && (await tab.evaluate(drawn)) === 0; i++) await tab.evaluate(FRAMES);
  const before = await tab.evaluate(drawn);
  assert.ok(before > 0, "the script draws the first chart");

  // The keyboard: skip link first, then a run is switched off and on again, then the table is sorted.
  await tab.press("Tab");
  assert.equal(await tab.evaluate("document.activeElement.className"), "skip");
  await tab.evaluate("document.querySelector('.legend button').focus()");
  await tab.press(" ");
  assert.equal(await tab.evaluate("document.activeElement.getAttribute('aria-pressed')"), "false");
  const dimmed = await tab.evaluate("document.querySelectorAll('.summary-table tr.off').length");
  assert.ok(dimmed > 0, "the runs of the variant are dimmed in the table");
  await tab.press("Enter");
  assert.equal(await tab.evaluate("document.activeElement.getAttribute('aria-pressed')"), "true");
  assert.equal(await tab.evaluate(drawn), before);
  await tab.evaluate("document.querySelector('.summary-table th:nth-child(3) button').focus()");
  for (const [direction, sign] of [["ascending", 1], ["descending", -1]]) {
    await tab.press("Enter");
    const sorted = await tab.evaluate(`(() => {
      const table = document.querySelector(".summary-table");
      const values = [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.value).filter((value) => value !== undefined).map(Number);
      return { sort: table.tHead.rows[0].cells[2].ariaSort ?? table.tHead.rows[0].cells[2].getAttribute("aria-sort"), values };
    })()`);
    assert.equal(sorted.sort, direction);
    assert.deepEqual(sorted.values, [...sorted.values].sort((a, b) => sign * (a - b)));
  }
  // Values at a place of a chart.
  await tab.evaluate("document.querySelector('figure[data-chart] svg.plot').focus()");
  await tab.press("ArrowRight", 5);
  assert.ok((await tab.evaluate("document.querySelectorAll('.tip li').length")) > 0, "values are shown");
  await tab.shoot("values.png");
  await tab.press("Escape");
  assert.equal(await tab.evaluate("document.querySelectorAll('.tip').length"), 0);
  // Focus can be seen wherever it goes.
  const unseen = await tab.evaluate(`[...document.querySelectorAll("a, button, input, summary, [tabindex='0']")].filter((element) => {
    element.focus({ focusVisible: true, preventScroll: true });
    const style = (target) => { const { outlineStyle, outlineWidth } = getComputedStyle(target); return outlineStyle !== "none" && outlineWidth !== "0px"; };
    return document.activeElement === element && !style(element) && !(element.nextElementSibling && style(element.nextElementSibling));
  }).map((element) => element.outerHTML.slice(0, 80))`);
  assert.deepEqual(unseen, [], "every focus is visible");
  // Runs instead of their means, and other groups.
  const means = await tab.evaluate(drawn);
  await tab.evaluate("document.querySelector('.controls input[name=show][value=runs]').click()");
  await tab.evaluate(FRAMES);
  assert.ok((await tab.evaluate(drawn)) > means, "a line for every run");
  await tab.evaluate("document.querySelector('.controls input[name=show][value=mean]').click()");
  const groups = await tab.evaluate(`[...document.querySelectorAll(".controls select option")].map((option) => {
    const select = option.parentElement;
    select.value = option.value;
    select.dispatchEvent(new Event("input", { bubbles: true }));
    return document.querySelectorAll(".legend li").length;
  })`);
  assert.ok(new Set(groups).size > 1, `other groups have other legends (${groups})`);
  await tab.evaluate(`(() => {
    const select = document.querySelector(".controls select");
    select.value = 0;
    select.dispatchEvent(new Event("input", { bubbles: true }));
  })()`);
  // Axes and smoothing.
  const first = "[...document.querySelectorAll('figure[data-chart] svg.plot path.line')].map((line) => line.getAttribute('d')).join()";
  for (const [name, value] of [["x", "time"], ["x", "epoch"], ["y", "log"], ["y", "linear"]]) {
    await tab.evaluate(`document.querySelector(".controls input[name=${name}][value=${value}]").click()`);
    await tab.evaluate(FRAMES);
    assert.ok(!/NaN|Infinity/.test(await tab.evaluate(first)), `${name} ${value}`);
  }
  const slide = await tab.evaluate(`(async () => {
    const slider = document.querySelector(".controls input[type=range]");
    document.querySelector("#curves").scrollIntoView();
    const start = performance.now();
    for (let i = 0; i < 10; i++) {
      slider.value = i / 10;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      await new Promise(requestAnimationFrame);
    }
    return (performance.now() - start) / 10;
  })()`);
  facts["milliseconds a frame while smoothing"] = slide.toFixed(1);
  assert.deepEqual(tab.complaints, [], "nothing in the console");
  assert.deepEqual(tab.requests.filter((url) => !url.startsWith("file:") && !url.startsWith("data:")), [], "no request");

  // Printed.
  const { data } = await tab.send("Page.printToPDF", { preferCSSPageSize: true, printBackground: false });
  const pdf = Buffer.from(data, "base64");
  facts["pages printed"] = (pdf.toString("latin1").match(/\/Type\s*\/Page\b/g) ?? []).length;
  assert.ok(facts["pages printed"] > 0);
  if (screenshots) writeFileSync(join(screenshots, "print.pdf"), pdf);
  await tab.send("Emulation.setEmulatedMedia", { media: "print" });
  const controls = await tab.evaluate("getComputedStyle(document.querySelector('.controls')).display");
  assert.equal(controls, "none", "controls are not printed");
  assert.equal(await tab.evaluate("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)");

  // On a screen of each kind.
  for (const scheme of ["light", "dark"]) {
    const tab = await browser.tab();
    await tab.open(page, { scheme, height: 5000 });
    await tab.shoot(`${scheme}.png`);
  }
  const narrow = await browser.tab();
  await narrow.open(page, { width: 390, height: 3000 });
  const overflow = await narrow.evaluate("document.documentElement.scrollWidth - innerWidth");
  assert.ok(overflow <= 0, `a narrow page is not wider than the screen (${overflow} px)`);
  await narrow.shoot("narrow.png");

  // Without JavaScript.
  const still = await browser.tab();
  await still.open(page, { script: false, height: 3000 });
  const { root } = await still.send("DOM.getDocument", { depth: 0 });
  const count = async (selector) =>
    (await still.send("DOM.querySelectorAll", { nodeId: root.nodeId, selector })).nodeIds.length;
  assert.equal(await count("figure svg.plot"), charts);
  assert.ok((await count("figure svg.plot polyline")) >= runs, "curves are drawn");
  assert.equal(await count(".controls:not([hidden])"), 0, "controls that would do nothing are hidden");
  assert.equal(await count("th button, .legend button"), 0);
  await still.shoot("without_script.png");
  assert.deepEqual(still.complaints, []);

  for (const [name, value] of Object.entries(facts)) console.log(`${name}: ${value}`);
} finally {
  await browser.close();
}
